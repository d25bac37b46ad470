"""Clips of a real host that obey key frames: what comes back, what is refused, what is left."""

from __future__ import annotations

import base64
import json
import urllib.request
from typing import Any

import numpy as np
import pytest

import motion
from motion.demo.world import draw_clip, parse_caption
from motion.fields.table import Size
from motion.hosts.controls import Control
from motion.hosts.standalone import Networks, Standalone
from motion.settings.choices import SAMPLERS
from motion.settings.settings import Clip

from .support.models import CHECKPOINT, FULL_CHECKPOINT, FULL_MODULE, MODULE, OTHER, RGB, SCRIBBLE, STRANGER, UNTRAINED
from .support.webui import (
    FRAMES,
    QUICK,
    WHOLE,
    Frames,
    Webui,
    apart,
    changed,
    encoded,
    moving,
    needs_controlnet,
    reference,
)

DIFFERENT = 0.5
LAST = draw_clip(parse_caption(QUICK["prompt"].replace("red", "blue")), np.random.default_rng(4))[-1]
ROUNDING = 2
"""Most that a value of a pixel may be off, of 255."""


@pytest.fixture
def keys(first_frame: Frames) -> list[dict[str, Any]]:
    """A picture at each end."""
    return [
        {"frame": 0, "image": encoded(first_frame), "encoder": RGB},
        {"frame": -1, "image": f"data:image/png;base64,{encoded(LAST)}", "encoder": RGB, "strength": 0.5},
    ]


def test_a_clip_with_key_frames_and_what_it_says(webui: Webui, still: str, keys: list[dict[str, Any]]) -> None:
    plain, before = webui.clip().frames, webui.facts()
    result = webui.clip({"key_frames": keys})
    assert apart(result.frames, plain) > DIFFERENT
    text = result.info["infotexts"][0]
    assert all(said in text for said in (f"SparseCtrl: {RGB}", "Key frames: 0 15=0.5", "SparseCtrl strength: 0."))
    assert "SparseCtrl hash: " in text and "Key frame jumps: 0=" in text and "Motion key frames: " in text
    assert "Motion: SparseCtrl" in webui.server.log_tail()
    assert not changed(before, webui.facts())
    assert (webui.clip().frames == plain).all()
    assert (webui.clip({"key_frames": keys}).frames == result.frames).all()


def test_the_infotexts_digits_are_the_same_images(webui: Webui, still: str, keys: list[dict[str, Any]]) -> None:
    result = webui.clip({"key_frames": keys})
    _, _, rest = result.info["infotexts"][0].partition("Motion key frames: ")
    written = rest.partition(", ")[0].strip('"')
    assert (webui.clip({"key_frames": written}).frames == result.frames).all()
    digits = written.partition("=")[2][:16]
    assert (webui.server.data / "motion-key-images" / f"{digits}.png").is_file()


def test_a_path_is_followed_only_where_the_page_may_read(webui: Webui, still: str, first_frame: Frames) -> None:
    inside = webui.server.data / "key.png"
    inside.write_bytes(base64.b64decode(encoded(first_frame)))
    key = {"frame": 0, "encoder": RGB}
    frames = [
        webui.clip({"key_frames": [{**key, "image": image}]}).frames for image in (str(inside), encoded(first_frame))
    ]
    assert (frames[0] == frames[1]).all()
    (webui.server.data / "text.png").write_text("no picture")
    for image in ("/etc/hostname", str(webui.server.data / "text.png"), str(webui.server.data / "none.png")):
        reply = webui.refusal({"key_frames": [{**key, "image": image}]})
        assert reply.status == 422 and "key image" in reply.sentence


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")
def test_both_hosts_draw_the_same_clip(webui: Webui, keys: list[dict[str, Any]], first_frame: Frames) -> None:
    steps = 4  # divides 1000
    folder = webui.server.data / "models"
    images = {0: np.array(first_frame), FRAMES - 1: np.array(LAST)}
    control = Control(folder / "motion" / f"{RGB}.safetensors", images, {FRAMES - 1: 0.5})
    request = {"prompt": QUICK["prompt"], "seed": 5, "steps": steps}
    clip = Clip(**request, cfg=QUICK["cfg_scale"], size=Size(64, 64), frames=FRAMES, key_scale=0.5)
    host = Standalone.open(folder / "Stable-diffusion" / f"{CHECKPOINT}.safetensors", device="cpu")
    ours = host.render(clip, Networks(motion.load(folder / "motion" / f"{MODULE}.safetensors"), controls=[control]))
    theirs = webui.clip(
        {"key_frames": keys, "key_scale": 0.5}, **request, sampler_name=SAMPLERS[clip.sampler], override_settings=WHOLE
    ).frames  # fmt: skip
    assert np.abs(theirs.astype(int) - ours).max() <= ROUNDING


def test_pictures_and_sketches_together(webui: Webui, still: str, keys: list[dict[str, Any]]) -> None:
    alone = webui.clip({"key_frames": keys})
    sketch = {"frame": "8", "image": encoded(LAST), "encoder": SCRIBBLE}
    both = webui.clip({"key_frames": [*keys, sketch]})
    assert apart(both.frames, alone.frames) > DIFFERENT
    assert f"SparseCtrl: {RGB}; {SCRIBBLE}" in both.info["infotexts"][0]
    assert "Key frames: 0 15=0.5; 8" in both.info["infotexts"][0]


def test_hires_fix_shows_the_images_in_the_larger_size(webui: Webui, still: str, keys: list[dict[str, Any]]) -> None:
    request = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.7}
    frames = webui.clip({"key_frames": keys}, **request).frames
    assert frames.shape[1:3] == (128, 128)
    assert apart(frames, webui.clip(**request).frames) > DIFFERENT


def test_another_checkpoint_in_the_middle(webui: Webui, still: str, keys: list[dict[str, Any]]) -> None:
    request = {"steps": 6, "refiner_checkpoint": OTHER, "refiner_switch_at": 0.5}
    refined = webui.clip({"key_frames": keys}, **request).frames
    plain = webui.clip(**request).frames
    assert apart(refined, plain) > DIFFERENT
    assert (webui.clip({"key_frames": keys, "key_start": 0.6}, **request).frames != plain).any()
    assert (webui.clip({"key_frames": keys}, **request).frames == refined).all()


@pytest.mark.parametrize("engine", ["denoiser", "attention"])
def test_long_clips_in_windows(webui: Webui, still: str, keys: list[dict[str, Any]], engine: str) -> None:
    fields = {"frames": 24, "context_length": 8, "context_engine": engine}
    assert apart(webui.clip({**fields, "key_frames": keys}).frames, webui.clip(fields).frames) > DIFFERENT


def test_img2img(webui: Webui, still: str, keys: list[dict[str, Any]], first_frame: Frames) -> None:
    plain = webui.img2img(first_frame, **moving()).frames
    assert apart(webui.img2img(first_frame, **moving(key_frames=keys)).frames, plain) > DIFFERENT


@needs_controlnet
def test_beside_a_controlnet_unit(webui: Webui, still: str, keys: list[dict[str, Any]], first_frame: Frames) -> None:
    def clip(**fields: Any) -> Frames:
        scripts = {**moving(**fields)["alwayson_scripts"], **reference(encoded(first_frame))}
        return webui.txt2img(alwayson_scripts=scripts).pictures[1:-1]  # it puts its own map behind

    both = clip(key_frames=keys)
    assert apart(both, clip()) > DIFFERENT
    assert apart(both, webui.clip({"key_frames": keys}).frames) > DIFFERENT


def test_colours_are_matched_on_key_frames_alone(webui: Webui, still: str, keys: list[dict[str, Any]]) -> None:
    plain, matched = (webui.clip({"key_frames": keys, "colour_match": match}).frames for match in (False, True))
    assert (matched[1:-1] == plain[1:-1]).all()
    assert abs(matched[0].mean() - plain[1].mean()) <= 1
    assert abs(matched[-1].mean() - plain[-2].mean()) <= 1


@pytest.mark.parametrize(
    ("changes", "settings", "said"),
    [
        ({"encoder": "nobody"}, {}, "'nobody' is none of the SparseCtrl encoders"),
        ({"encoder": ""}, {}, "names no SparseCtrl encoder"),
        ({"encoder": MODULE}, {}, "and not a SparseCtrl encoder"),
        ({"encoder": STRANGER}, {}, "and not a SparseCtrl encoder"),
        ({"encoder": UNTRAINED}, {}, "all its residuals are zero"),
        ({"frame": 16}, {}, "key frame 16 is out of range"),
        ({"frame": 15}, {}, "key frame 15 stands twice"),
        ({"frame": "sideways"}, {}, "'sideways' is no frame"),
        ({"frame": 1.5}, {}, "give a list of"),
        ({"image": "0123456789abcdef"}, {}, "is not in"),
        ({"image": "bm8gcGljdHVyZQ=="}, {}, "no picture that can be read"),
        ({"image": "/9j/4AAQSkZJRgABAQ"}, {}, "key image"),
        ({}, {"key_scale": 0}, "its scale is 0"),
        ({}, {"key_start": 0.999}, "no step lies in"),
        ({}, {"key_start": 0.5, "key_end": 0.2}, "key start is 0.5"),
    ],
)
def test_what_cannot_be_done_is_refused(
    webui: Webui, still: str, keys: list[dict[str, Any]], changes: dict[str, Any], settings: dict[str, Any], said: str
) -> None:
    first, last = keys
    last = {**last, "encoder": changes.get("encoder", RGB)}
    reply = webui.refusal({"key_frames": [{**first, **changes}, last], **settings})
    assert reply.status == 422, reply.body
    assert said in reply.sentence


def test_an_encoder_for_other_widths_is_refused(webui: Webui, still: str, keys: list[dict[str, Any]]) -> None:
    reply = webui.refusal(
        {"key_frames": keys, "module": FULL_MODULE}, override_settings={"sd_model_checkpoint": FULL_CHECKPOINT}
    )
    assert reply.status == 422 and "SparseCtrl encoder" in reply.sentence and "does not fit" in reply.sentence


def test_the_routes_of_the_strip(webui: Webui, first_frame: Frames) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    url = f"{webui.server.url}/motion/v1/images"
    request = urllib.request.Request(url, base64.b64decode(encoded(first_frame)), {"Content-Type": "image/png"})
    with opener.open(request) as response:
        digits = json.load(response)["image"]
    with opener.open(f"{url}/{digits}") as response:
        assert response.headers["Content-Type"] == "image/png"
        assert response.read().startswith(b"\x89PNG")
    for wrong in ("0123456789abcdef", "..%2fconfig", "x"):
        assert webui.reply(f"/motion/v1/images/{wrong}").status in (404, 422)
    assert webui.reply("/motion/v1/images", {"no": "picture"}).status == 422
    answer = webui.post("/motion/v1/keys", {"frames": 16, "key_frames": [{"image": digits}, {"image": digits}]})
    assert (answer["places"], answer["problem"]) == ([0, 15], "")
    assert [key["encoder"] for key in answer["key_frames"]] == [RGB, RGB]
