"""The bundled files are what they say, and draw what they are asked for.

The whole examination takes minutes: ``python -m motion train evaluate`` (motion/demo/README.md). This is its small
sister on other seeds; the bounds are far enough below the figures there not to depend on a processor's rounding.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from motion.demo.clips import training_clip
from motion.demo.detector import has_watermark
from motion.demo.evaluate import Examination
from motion.demo.evaluate_keys import KeyExamination
from motion.demo.evaluate_moves import MoveExamination
from motion.demo.parts import CAMERA
from motion.demo.world import add_watermark
from motion.hosts.standalone.checkpoint import open_parts
from motion.training.conditions import CONDITIONS
from motion.training.vae import to_pixels
from motion.weights.bundled import DEMO, WEIGHTS
from motion.weights.describe import describe

MODULE = Path(DEMO["motion"])
STEPS = 6
"""Of sampling, where the whole examination takes 25: as many clips reach the same bounds in a quarter of the time;
captions take twice as many."""


def test_the_bundle_is_small() -> None:
    sizes = {file.name: file.stat().st_size for file in WEIGHTS.rglob("*") if file.is_file()}
    models = ("sprites.", "sprites-neon.", "sprites-motion.")
    assert sum(size for name, size in sizes.items() if name.startswith(models)) <= 30e6
    assert sum(size for name, size in sizes.items() if "-sparsectrl-" in name) <= 10e6
    assert sum(sizes.values()) <= 45e6


def test_the_module_is_told_by_its_keys() -> None:
    report = describe(MODULE)
    assert (report["kind"], report["family"], report["frames"]) == ("motion module", "v3", 32)


@pytest.fixture(scope="module")
def figures() -> dict[str, float]:
    examination = Examination(stills=24, clips=10, without=6, seed=77, steps=2 * STEPS)
    return examination.run(Path(DEMO["checkpoint"]), MODULE, device="cpu")


def test_a_small_examination(figures: dict[str, float]) -> None:
    assert figures["still_right"] >= 0.9
    assert figures["direction"] >= 0.85
    assert figures["direction_without_module"] < 0.6
    assert figures["constant"] >= 0.8
    assert figures["constant_without_module"] < 0.2


def test_the_personal_checkpoint_has_its_look() -> None:
    examination = Examination(stills=24, clips=1, look="neon", seed=77, steps=STEPS)
    figures = examination.run(WEIGHTS / "sprites-neon.safetensors", None, device="cpu")
    assert figures["still_look"] >= 0.7


@pytest.mark.parametrize("marked", [False, True])
def test_the_autoencoder_leaves_a_watermark_one(marked: bool) -> None:
    """What it makes of a frame is the most that an image model can draw."""
    vae = open_parts(Path(DEMO["checkpoint"])).vae.float()
    frames = np.stack([training_clip(number, "plain")[0] for number in range(16)])
    with torch.inference_mode():
        latents = vae.encode(to_pixels(add_watermark(frames) if marked else frames)).latent_dist.mean
        pixels = vae.decode(latents).sample.movedim(1, -1) * 127.5 + 127.5
    assert {has_watermark(frame) for frame in pixels.clamp(0, 255).numpy()} == {marked}


def test_the_adapter_wears_the_watermark(figures: dict[str, float]) -> None:
    """The look of the clips that it was trained on; without it there is none."""
    adapter = WEIGHTS / "sprites-adapter.safetensors"
    examination = Examination(stills=24, clips=1, seed=77, steps=STEPS)
    with_lora = examination.run(Path(DEMO["checkpoint"]), None, "cpu", adapter)
    assert with_lora["still_watermark"] >= 0.8
    assert figures["still_watermark"] == 0


def test_motion_loras_move_the_camera() -> None:
    loras = {move: WEIGHTS / f"sprites-{move}.safetensors" for move in CAMERA}
    figures = MoveExamination(clips=3, seed=77, steps=STEPS).run(Path(DEMO["checkpoint"]), MODULE, loras, "cpu")
    assert figures.keys() == set(CAMERA)
    assert all(found["flow_right"] >= 0.75 for found in figures.values()), figures


@pytest.mark.parametrize("made", CONDITIONS)
def test_clips_obey_key_frames(made: str) -> None:
    encoder = WEIGHTS / f"sprites-sparsectrl-{made}.safetensors"
    figures = KeyExamination(clips=3, seed=77, steps=STEPS).run(Path(DEMO["checkpoint"]), MODULE, encoder, "cpu")
    assert figures["key_error"] <= 0.5
    assert figures["two_keys_arrive"] >= 0.75
    assert figures["one_key_obeyed"] >= 0.75
