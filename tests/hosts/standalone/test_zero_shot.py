"""Clips without a motion module: Text2Video-Zero and cross-frame attention, drawn by the standalone host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motion.errors import MotionError
from motion.fields.table import Size
from motion.hosts.standalone import Standalone
from motion.models.motion.model import MotionModel
from motion.settings.settings import Clip

# diffusers 0.42 turns tensors into arrays in a way NumPy 2.4 frowns upon, whenever a scheduler holds sigmas.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")

CLIP = Clip(prompt="a cat", frames=4, steps=5, seed=1, size=Size(64, 64), zero_shot=True, field_x=64, field_t0=500)


@pytest.fixture(scope="module")
def host(tiny: Path) -> Standalone:
    return Standalone.open(tiny / "sd15.safetensors", device="cpu")


def apart(one: np.ndarray, other: np.ndarray) -> int:
    """The largest difference of two clips, of 255."""
    return int(np.abs(one.astype(int) - other).max())


@pytest.mark.parametrize("sampler", ["ddim", "euler", "lcm"])
def test_the_first_frame_is_the_still_and_the_others_are_moved(sampler: str, host: Standalone) -> None:
    clip = replace(CLIP, sampler=sampler)
    frames = host.render(clip)
    still = host.render(replace(clip, frames=1, zero_shot=False))
    if sampler != "lcm":  # whose own noise goes on from what other frames took of the stream
        assert apart(frames[:1], still) <= 1
    assert len({frame.tobytes() for frame in frames}) == 4


def test_windows_are_the_whole(host: Standalone) -> None:
    assert apart(host.render(replace(CLIP, context_length=3, context_overlap=1)), host.render(CLIP)) <= 1


def test_several_clips_at_once_are_each_alone(host: Standalone) -> None:
    clips = [CLIP, replace(CLIP, seed=2, prompt="a dog")]
    assert apart(host.render_all(clips), np.stack([host.render(clip) for clip in clips])) <= 1


def test_without_a_field_frames_of_one_noise_are_one_picture(host: Standalone) -> None:
    frames = host.render(replace(CLIP, field_x=0, field_y=0, noise="constant", frames=3))
    assert apart(frames[1:], frames[:1].repeat(2, axis=0)) <= 1


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"sampler": "dpmpp_2m"}, "the sampler is DPM"),
        ({"steps": 2}, "leave no room"),
        ({"freeinit": 2}, "Text2Video-Zero draws a clip once"),
        ({"frames": 1, "field_x": 0, "field_y": 0}, "cross-frame attention has nothing to read in a clip of 1 frame"),
    ],
)
def test_what_cannot_be_is_refused(changed: dict[str, Any], told: str, host: Standalone) -> None:
    with pytest.raises(MotionError, match=told):
        host.render(replace(CLIP, **changed))


@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_frames_are_smoothed_on_the_way(sampler: str, host: Standalone) -> None:
    """ControlVideo without its ControlNets: one noise, attention to all frames, flicker taken out in two steps."""
    clip = replace(CLIP, zero_shot=False, cross_frame="full", noise="constant", sampler=sampler)
    smooth = host.render(replace(clip, smoothing=0.4))
    assert apart(smooth, host.render(clip)) > 0


def test_a_motion_module_beside_it_is_refused(host: Standalone, v3: MotionModel) -> None:
    with pytest.raises(MotionError, match="leave out one of them"):
        host.render(CLIP, v3)
