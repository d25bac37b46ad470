"""The bundled models in the real host: what they draw, and that the standalone host draws the same."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import motion
from motion.demo.detector import Sprite, changes, direction, has_watermark, read_clip, read_frame
from motion.demo.evaluate import demo_clip
from motion.demo.evaluate_keys import NEAR
from motion.demo.evaluate_moves import flow
from motion.demo.parts import CAMERA
from motion.demo.world import FRAMES, PIXELS, Scene, all_scenes, draw_clip
from motion.hosts.standalone import Standalone
from motion.models.motion.model import MotionModel
from motion.settings.choices import SAMPLERS
from motion.settings.settings import Clip
from motion.weights.bundled import DEMO, WEIGHTS

from .support.models import link
from .support.webui import Frames, Webui, encoded

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers"),
    pytest.mark.usefixtures("trained"),
]

CLIPS = 20
SEED = 4000
"""Of the first clip."""
ROUNDING = 2
"""Most that a value of a pixel may be off, of 255."""
ADAPTER, ENCODER = "sprites-adapter", "sprites-sparsectrl-rgb"
LORAS = {f"sprites-{move}": move for move in CAMERA}
"""The move of each bundled motion LoRA."""


def held_out(count: int) -> list[Scene]:
    """Scenes that training never saw, spread over all words."""
    scenes = [scene for scene in all_scenes() if scene.held_out]
    return [scenes[index * len(scenes) // count] for index in range(count)]


def drawn(webui: Webui, clip: Clip, **fields: object) -> Frames:
    """The clip by the real host, with the tab's `fields`."""
    width, height = clip.size
    return webui.clip(
        {"frames": clip.frames, **fields}, prompt=clip.prompt, seed=clip.seed, steps=clip.steps, cfg_scale=clip.cfg,
        sampler_name=SAMPLERS[clip.sampler], width=width, height=height,
    ).frames  # fmt: skip


@pytest.fixture(scope="module")
def drawings(webui: Webui) -> list[tuple[Scene, list[Sprite | None]]]:
    """Held-out scenes, and what the detector sees in the clips of them."""
    clips = []
    for index, scene in enumerate(held_out(CLIPS)):
        frames = drawn(webui, demo_clip(scene.caption, SEED + index))
        assert frames.shape == (FRAMES, PIXELS, PIXELS, 3)
        clips.append((scene, read_clip(frames)))
    return clips


def test_clips_move_as_captioned(drawings: list[tuple[Scene, list[Sprite | None]]]) -> None:
    right = [direction(sprites) == scene.direction for scene, sprites in drawings]
    assert sum(right) >= 0.85 * CLIPS


def test_clips_begin_in_the_captioned_colour(drawings: list[tuple[Scene, list[Sprite | None]]]) -> None:
    right = [sprites[0] is not None and sprites[0].colour == scene.colour for scene, sprites in drawings]
    assert sum(right) >= 0.75 * CLIPS


@pytest.fixture(scope="module")
def parts(webui: Webui) -> None:
    """The bundled parts of the sprite world among the host's motion models."""
    for name in (ADAPTER, ENCODER, *LORAS):
        link(webui.server.data / "models" / "motion" / f"{name}.safetensors", WEIGHTS / f"{name}.safetensors")


@pytest.mark.parametrize("lora", LORAS)
def test_a_motion_lora_moves_the_camera(
    webui: Webui, parts: None, drawings: list[tuple[Scene, list[Sprite | None]]], lora: str
) -> None:
    flows = []
    for index in range(0, CLIPS, CLIPS // 4):
        scene, still = drawings[index]
        moved = read_clip(drawn(webui, demo_clip(scene.caption, SEED + index), loras=f"{lora}:1"))
        flows.append(flow(changes(moved), changes(still), LORAS[lora]))
    assert sum(value > 0 for value in flows) >= 3


def test_the_adapter_wears_the_watermark(webui: Webui, parts: None) -> None:
    """In frames that are pictures of their own, for the adapter was trained on such."""
    clip = demo_clip(DEMO["prompt"], SEED)
    with_lora = drawn(webui, clip, scale=0, adapter=ADAPTER, adapter_scale=1)
    dropped = drawn(webui, clip, scale=0, adapter=ADAPTER, adapter_scale=0)
    assert sum(map(has_watermark, with_lora)) >= 0.8 * FRAMES
    assert not any(map(has_watermark, dropped))


def test_clips_end_where_their_last_key_frame_does(webui: Webui, parts: None) -> None:
    near = []
    for seed, scene in enumerate(held_out(4), SEED):
        real = draw_clip(scene, np.random.default_rng(seed))
        keys = [{"frame": frame, "image": encoded(real[frame]), "encoder": ENCODER} for frame in (0, -1)]
        last, wanted = map(read_frame, (drawn(webui, demo_clip(scene.caption, seed), key_frames=keys)[-1], real[-1]))
        assert wanted is not None
        near.append(last is not None and math.dist(last.centroid, wanted.centroid) <= NEAR)
    assert sum(near) >= 3


@pytest.fixture(scope="module")
def standalone() -> tuple[Standalone, MotionModel]:
    return Standalone.open(Path(DEMO["checkpoint"]), device="cpu"), motion.load(DEMO["motion"])


@pytest.mark.parametrize(("sampler", "steps"), [("euler", 25), ("euler_a", 25), ("ddim", 25), ("ddim", 30)])
def test_both_hosts_draw_the_same_clip(
    webui: Webui, standalone: tuple[Standalone, MotionModel], sampler: str, steps: int
) -> None:
    host, module = standalone
    clip = replace(demo_clip(DEMO["prompt"], SEED), sampler=sampler, steps=steps)
    theirs, ours = drawn(webui, clip), host.render(clip, module)
    assert np.abs(theirs.astype(int) - ours).max() <= ROUNDING
