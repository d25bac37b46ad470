"""Values over frames and places through the host's API: curves, masks of motion, noise of several kinds, views."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from motion.video.write import write

from .support.models import MODULE
from .support.webui import Frames, Webui, apart, changed, moving

FRAMES, SIDE = 8, 64
TRAINED = 16
"""Frames that the module was trained on: as many are drawn of a shorter clip."""
EULER = {"steps": 3, "sampler_name": "Euler"}
DIFFERENT = 0.05
"""Mean difference of 255 from which two clips are not the same up to rounding."""


def drawn(webui: Webui, prompt: str = "a red circle moving right", **fields: Any) -> Frames:
    return webui.clip({"frames": FRAMES, **fields}, prompt=prompt, **EULER).frames


def far(first: Frames, second: Frames) -> list[float]:
    """How far they are apart in each frame."""
    return [apart(*pair) for pair in zip(first, second, strict=True)]


@pytest.mark.parametrize(
    ("name", "number", "more"),
    [
        ("scale", 0.8, {}),
        ("attention_scale", 0.9, {}),
        ("cfg_curve", 4, {}),
        ("cross_frame_strength", 0.5, {"cross_frame": "first"}),
    ],
)
def test_a_constant_curve_is_the_number(webui: Webui, name: str, number: float, more: dict[str, Any]) -> None:
    curve = f"0: {number}, -1: {number}"
    assert (drawn(webui, **more, **{name: curve}) == drawn(webui, **more, **{name: number})).all()


def test_a_word_counts_by_frame(webui: Webui) -> None:
    weak, strong = (drawn(webui, f"a (red:{weight}) circle", scale=0) for weight in (0.6, 1.4))
    rising = drawn(webui, "a (red:0: 0.6, -1: 1.4) circle", scale=0)
    assert far(rising, weak)[0] == far(rising, strong)[-1] == 0
    assert min(far(rising, weak)[-1], far(rising, strong)[0]) > 0
    steady = drawn(webui, "a (red:0: 1.4, -1: 1.4) circle")
    assert (steady == drawn(webui, "a (red:1.4) circle")).all()


def test_frames_read_others_by_a_curve(webui: Webui) -> None:
    own, read = (drawn(webui, cross_frame="first", cross_frame_strength=strength, scale=0) for strength in (0, 1))
    rising = drawn(webui, cross_frame="first", cross_frame_strength="0: 0, -1: 1", scale=0)
    assert far(rising, own)[0] == far(rising, read)[-1] == 0 < far(rising, own)[-1]


def test_an_initial_image_counts_by_frame(webui: Webui, first_frame: Frames) -> None:
    def of_image(**fields: Any) -> Frames:
        return webui.img2img(first_frame, **moving(frames=FRAMES, scale=0, **fields), **EULER).frames

    plain, falling = of_image(), of_image(initial_weight="0: 1, -1: 0")
    assert far(falling, plain)[0] == 0 < DIFFERENT < far(falling, plain)[-1]
    assert (of_image(initial_weight="0: 0.5, -1: 0.5") == of_image(initial_weight=0.5)).all()


def test_in_one_frame_the_later_key_counts(webui: Webui) -> None:
    fields = {"frames": 1, "noise": "independent"}
    one, off = (drawn(webui, **{**fields, "scale": scale}) for scale in ("0: 1, -1: 0", 0))
    assert (one == off).all()


def test_further_modules_act_where_their_masks_are_white(webui: Webui, still: str) -> None:
    left = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    left[:, :, : SIDE // 2] = 255
    for name, mask in (("white", left | 255), ("black", left & 0), ("left", left)):
        write(mask, webui.server.data / f"motion-{name}.png", 8, "")

    def beside(**further: Any) -> Frames:
        return drawn(webui, modules=[{"module": MODULE, "effect": 1, **further}])

    before, plain, both = webui.facts(), drawn(webui), beside()
    assert apart(plain, both) > DIFFERENT
    assert (beside(mask="motion-white.png") == both).all()
    assert (beside(mask="motion-black.png") == plain).all() and (beside(effect=0) == plain).all()
    assert min(apart(beside(mask="motion-left.png"), other) for other in (plain, both)) > 0
    assert (drawn(webui, effect_mask="motion-black.png") == drawn(webui, scale=0)).all()
    assert not changed(before, webui.facts())


def test_noise_in_layers_and_listed_seeds(webui: Webui) -> None:
    plain, layers = drawn(webui), "constant:0.5, freenoise:1"
    assert (drawn(webui, noise_layers="constant:0") == plain).all()
    noisy = [webui.clip({"frames": FRAMES, "noise_layers": layers}, **EULER) for _ in range(2)]
    assert (noisy[0].frames == noisy[1].frames).all() and apart(noisy[0].frames, plain) > DIFFERENT
    assert f'Motion noise layers: "{layers}"' in noisy[0].info["infotexts"][0]
    listed = [drawn(webui, seeds="5,5,8", scale=0) for _ in range(2)]
    assert (listed[0] == listed[1]).all() and far(listed[0][:1], listed[0][1:2]) == [0]


def test_the_whole_clip_as_one_view_is_the_clip(webui: Webui) -> None:
    """All frames that are drawn, of which a short clip keeps some."""
    plain = drawn(webui)
    assert (drawn(webui, view_length=TRAINED) == plain).all()
    views = [drawn(webui, view_length=4, view_overlap=2) for _ in range(2)]
    assert (views[0] == views[1]).all() and apart(views[0], plain) > DIFFERENT
    windows: dict[str, Any] = {"frames": 2 * FRAMES, "context_length": 8, "context_overlap": 2}
    assert apart(drawn(webui, **windows), drawn(webui, **windows, view_length=4, view_overlap=2)) > DIFFERENT
