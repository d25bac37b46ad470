"""Prompts that change over the frames of a clip, in the real host and beside all else it reads out of a prompt."""

from __future__ import annotations

import json
from typing import Any

import pytest

from motion.demo.detector import read_clip

from ..support.networks import LORA
from ..support.webui import FRAMES, Webui, apart
from ..test_api import SUITED
from ..test_features import HIRES
from ..test_loras import CHANGED, SAME
from .test_prompts import BLUE, PROMPT, ROUNDING, long

THERE_AND_BACK = f"0: {PROMPT}\n7-8: {BLUE}\n-1: {PROMPT}"
ENCODE = "modules.prompt_parser.get_learned_conditioning"
APART: dict[str, Any] = {"context_length": 8, "context_schedule": "batched", "noise": "independent"}
"""Two windows that know nothing of each other."""


def spelled(text: str) -> str:
    """The same prompt as key frames."""
    return f"0: {text}\n-3: {text}"


@pytest.mark.parametrize(
    "text",
    [PROMPT, f"({PROMPT}:1.3)", long(PROMPT, 76), PROMPT.replace("red", "[red:blue:0.5]"), f"{PROMPT} AND {BLUE} :0.5",
     f"{PROMPT} <lora:{LORA}:1>"],
    ids=["plain", "emphasis", "long", "editing", "AND", "LoRA"],
)  # fmt: skip
def test_key_frames_that_say_the_same_are_the_prompt(webui: Webui, still: str, text: str) -> None:
    result = webui.clip(prompt=spelled(text), steps=4)
    assert (result.frames == webui.clip(prompt=text, steps=4).frames).all()
    assert result.info["infotexts"][0].startswith(spelled(text))
    assert "Motion version: " in result.info["infotexts"][0]


@pytest.mark.parametrize("request_", [{"cfg_scale": 1}, HIRES, {"sampler_name": "Euler a"}], ids=str)
def test_whatever_else_is_asked_for(webui: Webui, still: str, request_: dict[str, Any]) -> None:
    same = webui.clip(prompt=spelled(PROMPT), negative_prompt=spelled(BLUE), **request_).frames
    assert (same == webui.clip(prompt=PROMPT, negative_prompt=BLUE, **request_).frames).all()
    other = webui.clip(prompt=THERE_AND_BACK, negative_prompt=BLUE, **request_).frames
    assert apart(other, same) > ROUNDING


def test_every_frame_keeps_its_prompt_in_windows(webui: Webui) -> None:
    """By its number in the clip; the prompt of the other window is not even heard of."""
    travelling = webui.clip(APART, prompt=f"0-7: {PROMPT}\n8-15: {BLUE}").frames
    first, second = (webui.clip(APART, prompt=text).frames for text in (PROMPT, BLUE))
    assert (travelling[:8] == first[:8]).all()
    assert (travelling[8:] == second[8:]).all()
    negative = webui.clip(APART, negative_prompt=f"0-7: {PROMPT}\n8-15: {BLUE}").frames
    assert (negative[8:] == webui.clip(APART, negative_prompt=BLUE).frames[8:]).all()


def test_a_map_of_another_tool_is_its_lines(webui: Webui, still: str) -> None:
    texts = {0: PROMPT, FRAMES - 1: BLUE}
    lines = webui.clip(prompt="\n".join(f"{frame}: {text}" for frame, text in texts.items())).frames
    result = webui.clip(prompt=json.dumps(texts, indent=1))
    assert (result.frames == lines).all()
    assert result.info["infotexts"][0].startswith("{")


def test_a_lora_in_one_line_acts_on_the_frames_of_that_line(webui: Webui, still: str) -> None:
    """Negative prompt and text encoder included; without motion, by which frames see each other."""

    def drawn(prompt: str) -> Any:
        return webui.clip({"scale": 0}, prompt=prompt, negative_prompt="blurry").frames

    plain, worn = (drawn(f"{PROMPT} <lora:{LORA}:{weight}>") for weight in (0, 1))
    lines = drawn(f"0-4: {PROMPT} <lora:{LORA}:1>\n-1: {PROMPT}")
    assert apart(worn, plain) > CHANGED
    assert apart(lines[:5], worn[:5]) <= SAME >= apart(lines[-1:], plain[-1:])
    assert apart(lines[8:9], worn[8:9]) > CHANGED < apart(lines[8:9], plain[8:9])
    assert (drawn(f"0: {PROMPT} <lora:{LORA}:1>\n-1: {PROMPT} <lora:{LORA}:1>") == worn).all()
    curve = drawn(f"{PROMPT} <lora:{LORA}:0-4: 1, -1: 0>")
    assert apart(curve[:5], worn[:5]) <= SAME >= apart(curve[-1:], plain[-1:])
    assert (drawn(f"{PROMPT} <lora:{LORA}:1>") == worn).all(), "nothing is left"


def test_texts_are_encoded_once(webui: Webui) -> None:
    """Two of the prompt, one of the negative prompt, for both clips of the job."""
    with webui.calls(ENCODE) as calls:
        clips = webui.clip(prompt=THERE_AND_BACK, n_iter=2).clips
    assert len(calls) == 2
    for clip in clips:
        assert (clip.frames == webui.clip(prompt=THERE_AND_BACK, seed=clip.seed).frames).all()


def test_texts_of_different_lengths(webui: Webui, still: str) -> None:
    prompt = f"0: {PROMPT}\n-1: {long(BLUE, 80)}\ncrisp"
    for request in ({}, {"negative_prompt": prompt}):
        assert len(webui.clip({"travel": "spherical"}, prompt=prompt, **request).frames) == FRAMES


def test_it_travels(webui: Webui, trained: None) -> None:
    text = "a {} circle moving right on a navy background".format
    frames = webui.clip(prompt=f"0: {text('red')}\n-1: {text('yellow')}", seed=1, **SUITED).frames
    colours = [sprite.colour if sprite else None for sprite in read_clip(frames)]
    assert "red" in colours[:4]
    assert "yellow" in colours[-4:]


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"prompt": f"0: a\n{FRAMES}: b"}, "key frame 16"),
        ({"negative_prompt": "9-3: a"}, "frames 9 to 3 go backwards"),
        ({"prompt": "0: a\n-16: b"}, "frame 0 two texts"),
        ({"prompt": 'best quality\n"0": "a", "8": "b"'}, "in a map of frames"),
        ({"prompt": "0: a\n8: b AND c"}, "parts joined by AND"),
    ],
    ids=str,
)
def test_what_cannot_travel_is_refused(webui: Webui, still: str, request_: dict[str, str], said: str) -> None:
    reply = webui.refusal({}, **request_)
    assert reply.status == 422, reply.body
    assert said in reply.sentence
