"""Prompt travel on what a WebUI makes of prompts: conditions in schedules by step, in parts, of any length."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from motion.errors import MotionError
from motion.hosts.webui import travel as travel_module
from motion.hosts.webui.travel import POOLED, Travel
from motion.settings.lora_tags import LoraTag
from motion.settings.prompt_keys import key_frames
from motion.settings.prompts import INTERPOLATIONS, travel
from motion.settings.tab import Tab

WINDOW, CHANNELS, STEPS = 7, 4, 10
"""Tokens of the text encoder's window, here also the words in it."""


class Entry(NamedTuple):
    end_at_step: int
    cond: Any


class Part:
    def __init__(self, schedules: Any, weight: float = 1.0) -> None:
        self.schedules, self.weight = schedules, weight


class Joined:
    def __init__(self, shape: Any, batch: Any) -> None:
        self.shape, self.batch = shape, batch


class Prompts(list[str]):
    is_negative_prompt = False


class Host:
    """What of a WebUI makes conditions: `a|b` changes in the middle, AND joins, long texts take more windows."""

    def __init__(self, sdxl: bool = False) -> None:
        self.sdxl = sdxl
        self.encoded: list[str] = []

    def cached(
        self, function: Any, required_prompts: Any, steps: int, caches: Any, networks: Any, hires: Any = None
    ) -> Any:
        return function(self, required_prompts, steps)

    def vectors(self, text: str, windows: int) -> Tensor:
        words = text.split()
        chunks = [" ".join(words[at * WINDOW : (at + 1) * WINDOW]) for at in range(windows)]
        return torch.cat([draw(chunk, WINDOW, CHANNELS) for chunk in chunks])

    def encode(self, texts: Sequence[str], zero: bool) -> list[Any]:
        windows = max(1, *(-(-len(text.split()) // WINDOW) for text in texts))
        self.encoded += texts
        found: list[Any] = [self.vectors(text, windows) for text in texts]
        if self.sdxl:
            sizes = torch.arange(3.0)
            found = [
                {"crossattn": cond * (not zero), "vector": torch.cat([draw(text, POOLED) * (not zero), sizes])}
                for text, cond in zip(texts, found, strict=True)
            ]
        return found


def draw(text: str, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(text.encode())))


def learned(host: Host, prompts: Prompts, steps: int, *_: Any) -> list[list[Entry]]:
    made = {}
    for text in dict.fromkeys(prompts):
        changes = text.split("|")
        conds = host.encode(changes, prompts.is_negative_prompt and not any(changes))
        ends = [steps * (at + 1) // len(changes) for at in range(len(changes))]
        made[text] = list(map(Entry, ends, conds))
    return [made[text] for text in prompts]


def multicond(host: Host, prompts: Prompts, steps: int, *_: Any) -> Joined:
    batch = []
    for text in prompts:
        parts = [re.fullmatch(r"(.*?)(?: :([\d.]+))?", part.strip()) for part in text.split("AND")]
        texts = Prompts(part[1] for part in parts if part)
        weights = [float(part[2] or 1) for part in parts if part]
        batch.append(list(map(Part, learned(host, texts, steps), weights)))
    return Joined((len(prompts),), batch)


@pytest.fixture(autouse=True)
def parser(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {
        "prompt_parser": SimpleNamespace(get_learned_conditioning=learned),
        "devices": SimpleNamespace(autocast=nullcontext),
        "shared": SimpleNamespace(sd_model=Host()),
    }
    monkeypatch.setattr(travel_module, "host_module", modules.__getitem__)
    monkeypatch.setattr(travel_module, "need", lambda *names: None)


def conditions_of(host: Host, prompt: str, function: Any = learned, negative: bool = False, **settings: Any) -> Any:
    tab = Tab(**{"frames": 9, **settings})
    prompts = Prompts([prompt] * tab.frames)
    prompts.is_negative_prompt = negative
    return Travel(host.cached, tab, tab.frames)(function, prompts, STEPS, [[None, None]], {})


@pytest.mark.parametrize("function", [learned, multicond])
def test_without_key_frames_it_is_what_the_host_says(function: Any) -> None:
    host, answer = Host(), object()
    host.cached = lambda *given: (answer, given)  # type: ignore[method-assign]
    prompts = Prompts(["a cat, 3: 4 ratio"] * 2)
    found = Travel(host.cached, Tab(frames=2), 2)(function, prompts, STEPS, [], {}, 5)
    assert found[0] is answer
    assert found[1][1] is prompts
    assert found[1][2:] == (STEPS, [], {}, 5)


@given(
    st.dictionaries(st.integers(0, 8), st.sampled_from(["a", "b c", "d " * 9]), min_size=1),
    st.sampled_from(list(INTERPOLATIONS)),
    st.booleans(),
)
def test_every_frame_is_told_its_mix_of_texts_that_are_encoded_once(keys: dict[int, str], how: str, loop: bool) -> None:
    prompt = "\n".join(f"{frame}: {text}" for frame, text in keys.items())
    host = Host()
    found = conditions_of(host, prompt, travel=how, loop="closed" if loop else "none")
    texts = list(dict.fromkeys(key_frames(prompt, 9).values()))
    assert sorted(text for text in host.encoded if text) == sorted(texts)
    windows = max(-(-len(text.split()) // WINDOW) for text in texts)
    for schedule, mix in zip(found, travel(prompt, 9, loop), strict=True):
        ends = [host.vectors(text, windows) for text in mix[:2]]
        (entry,) = schedule
        assert entry.end_at_step == STEPS
        assert torch.equal(entry.cond, INTERPOLATIONS[how](*ends, mix.weight))


def test_frames_beyond_the_clip_are_told_what_its_last_one_is() -> None:
    tab, host = Tab(frames=3), Host()
    found = Travel(host.cached, tab, 5)(learned, Prompts(["0: a\n-1: b"] * 5), STEPS, [], {})
    assert [torch.equal(schedule[0].cond, host.vectors("b", 1)) for schedule in found] == [False] * 2 + [True] * 3


def test_prompt_editing_goes_on_between_key_frames() -> None:
    """Frame 4 lies in the middle: it changes wherever one of the two texts does, and mixes what they then are."""
    host = Host()
    found = conditions_of(host, "0: a|b\n8: c|d|e")
    assert [entry.end_at_step for entry in found[0]] == [5, 10]
    assert [entry.end_at_step for entry in found[8]] == [3, 6, 10]
    assert [entry.end_at_step for entry in found[4]] == [3, 5, 6, 10]
    for entry, (first, second) in zip(found[4], ["ac", "ad", "bd", "be"], strict=True):
        mixed = torch.lerp(host.vectors(first, 1), host.vectors(second, 1), 0.5)
        assert torch.equal(entry.cond, mixed)


def test_parts_joined_by_and_travel_side_by_side() -> None:
    host = Host()
    found = conditions_of(host, "0: a :0.5 AND b\n8: c :0.5 AND d", multicond)
    assert found.shape == (9,)
    assert [part.weight for frame in found.batch for part in frame] == [0.5, 1.0] * 9
    for place, (first, second) in enumerate(["ac", "bd"]):
        mixed = torch.lerp(host.vectors(first, 1), host.vectors(second, 1), 0.25)
        assert torch.equal(found.batch[2][place].schedules[0].cond, mixed)


@pytest.mark.parametrize("prompt", ["0: a\n8: b AND c", "0: a :0.5 AND b\n8: a :0.6 AND b"])
def test_key_frames_with_other_parts_are_refused(prompt: str) -> None:
    with pytest.raises(MotionError, match=r"with weights \[.*\] and \[.*\]: give each as many parts"):
        conditions_of(Host(), prompt, multicond)


def test_a_key_frame_that_is_not_in_the_clip_is_refused() -> None:
    with pytest.raises(MotionError, match="key frame 9"):
        conditions_of(Host(), "0: a\n9: b")


@pytest.mark.parametrize("function", [learned, multicond])
def test_texts_of_other_lengths_end_with_empty_windows(function: Any) -> None:
    """Those of a part that is short, too: all are as long as the longest."""
    host, long = Host(), "a b c d e f g h"
    found = conditions_of(host, f"0: x|y\n8: {long}", function)
    schedules = [frame[0].schedules for frame in found.batch] if function is multicond else found
    assert {len(entry.cond) for schedule in schedules for entry in schedule} == {2 * WINDOW}
    assert torch.equal(schedules[0][0].cond, host.vectors("x", 2))
    assert torch.equal(schedules[0][0].cond[WINDOW:], host.vectors("", 1))
    assert torch.equal(schedules[8][0].cond, host.vectors(long, 2))


@pytest.mark.parametrize("how", INTERPOLATIONS)
def test_sdxls_pooled_texts_travel_too_and_sizes_stay(how: str) -> None:
    host = Host(sdxl=True)
    found = conditions_of(host, "0: a\n8: b", travel=how)[2][0].cond
    interpolate = INTERPOLATIONS[how]
    assert torch.equal(found["vector"][POOLED:], torch.arange(3.0))
    assert torch.equal(found["vector"][:POOLED], interpolate(draw("a", POOLED), draw("b", POOLED), 0.25))
    assert torch.equal(found["crossattn"], interpolate(host.vectors("a", 1), host.vectors("b", 1), 0.25))


def test_sdxls_empty_negative_prompt_is_zero_but_no_empty_window_is() -> None:
    host = Host(sdxl=True)
    found = conditions_of(host, "0: \n8: a b c d e f g h", negative=True)
    assert not found[0][0].cond["crossattn"][:WINDOW].any()
    assert torch.equal(found[0][0].cond["crossattn"][WINDOW:], host.vectors("", 1))


def test_each_text_is_encoded_with_the_loras_that_it_names() -> None:
    host, worn = Host(), list[tuple[Any, list[str]]]()

    @contextmanager
    def named(networks: Any, tags: Sequence[LoraTag]) -> Iterator[Any]:
        before = len(host.encoded)
        yield {**networks, "named": tags}
        worn.append(({tag.name: tag.text for tag in tags}, host.encoded[before:]))

    prompt = "0: a cat <lora:ink:0.5:1>\n2: a dog\n4: a bird <lora:ink:0.5>\n6: a fish <lora:ink:0:1>"
    prompts = Prompts([prompt] * 9)
    found = Travel(host.cached, Tab(frames=9), 9, named)(multicond, prompts, STEPS, [[None, None]], {})
    told = sorted((list(tags.items()), [text.strip() for text in texts]) for tags, texts in worn)
    assert told == [([], ["a dog", "a fish"]), ([("ink", 0.5)], ["a cat", "a bird"])]
    plain = conditions_of(Host(), re.sub("<.*?>", "", prompt), multicond)
    for frame in range(9):
        pair = (each.batch[frame][0].schedules[0].cond for each in (found, plain))
        torch.testing.assert_close(*pair, rtol=0, atol=0)


def test_a_negative_prompts_tags_are_text_to_the_host() -> None:
    host = Host()
    conditions_of(host, "0: a <lora:ink:1>\n-1: b <hypernet:x>", negative=True)
    assert host.encoded == ["a <lora:ink:1>", "b <hypernet:x>"]


@pytest.mark.parametrize("negative", ["", "blurry <lora:is:text>", "0: dark\n8: light"])
def test_a_negative_prompt_is_told_with_the_loras_of_each_line(negative: str) -> None:
    """Where it tells a frame one text."""
    host, worn = Host(), dict[str, list[str]]()

    @contextmanager
    def named(networks: Any, tags: Sequence[LoraTag]) -> Iterator[Any]:
        before = len(host.encoded)
        yield networks
        worn.setdefault(str([(tag.name, tag.text) for tag in tags]), []).extend(host.encoded[before:])

    told = Travel(host.cached, Tab(frames=9), 9, named)
    told.tagged = "0: a <lora:ink:0.5>\n8: b"
    prompts = Prompts([negative] * 9)
    prompts.is_negative_prompt = True
    found = told(learned, prompts, STEPS, [[None, None]], {})
    ends = {"0": ["dark"], "8": ["light"]} if "0:" in negative else {"0": [negative], "8": [negative]}
    assert worn["[('ink', 0.5)]"] == ends["0"]
    assert {*worn["[]"]} >= {*ends["8"]}
    assert len(found) == 9
