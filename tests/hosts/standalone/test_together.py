"""Key frames, motion LoRAs and trigger words on clips in windows, drawn by the standalone host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from motion.errors import MotionError
from motion.fields.table import Size
from motion.hosts.controls import Control
from motion.hosts.standalone import Networks, Standalone
from motion.hosts.standalone.networks.key_frames import digest
from motion.hosts.standalone.work import Work
from motion.models.motion.model import MotionModel
from motion.settings.settings import Clip
from motion.weights.formats.lora import Lora
from motion.weights.formats.pairs import Pair

CLIP = Clip(prompt="a cat", frames=10, steps=3, seed=1, size=Size(64, 64), context_length=4, context_overlap=1)
IMAGE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
LAYER = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.to_q"


@pytest.fixture(scope="module")
def host(tiny: Path) -> Standalone:
    return Standalone.open(tiny / "sd15.safetensors", device="cpu")


@pytest.mark.parametrize("engine", ["denoiser", "attention"])
def test_a_long_clip_obeys_its_keys(engine: str, encoder: Path, host: Standalone, v3: MotionModel) -> None:
    """The encoder reaches over 8 frames of it; one window of 8 is as good as none."""
    clip, short = replace(CLIP, context_engine=engine), replace(CLIP, frames=8, context_length=0)
    keys = Control(encoder, {1: IMAGE})
    assert not np.array_equal(host.render(clip, Networks(v3, controls=[keys])), host.render(clip, v3))
    assert keys.effect is not None and keys.effect.strength > 0
    plain = host.render(short, Networks(controls=[keys]))
    assert np.array_equal(host.render(replace(short, context_engine=engine), Networks(controls=[keys])), plain)
    with pytest.raises(MotionError, match="16 frames do not fit this SparseCtrl encoder"):
        host.render(replace(CLIP, context_length=0), Networks(v3, controls=[keys]))


def test_a_clip_that_was_cut_off_goes_on_with_its_key_frames(
    encoder: Path, host: Standalone, v3: MotionModel, tmp_path: Path
) -> None:
    """Also behind its last step, and what the encoder came to is that of all steps."""
    lora = Lora("pan", "motion", {LAYER: Pair(torch.randn(3, 32), 0.2 * torch.randn(32, 3), 1.0)}, {})
    whole = Control(encoder, {0: IMAGE})
    steps: list[int] = []
    frames = list(
        host.stream(CLIP, Networks(v3, attached=[(lora, 0.8)], controls=[whole]), lambda done, _: steps.append(done))
    )
    assert whole.effect is not None
    for cut in (1, steps[-1]):
        work, keys = Work.of(tmp_path / "work", CLIP, "the job"), Control(encoder, {0: IMAGE})

        def stop(done: int, steps: int, cut: int = cut) -> None:
            if done == cut:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            host.stream(CLIP, Networks(v3, attached=[(lora, 0.8)], controls=[keys]), stop, work)
        again = list(host.stream(CLIP, Networks(v3, attached=[(lora, 0.8)], controls=[keys]), work=work))
        assert np.array_equal(again, frames)
        assert keys.effect is not None
        assert (keys.effect.passes, keys.effect.strength) == (whole.effect.passes, whole.effect.strength)
        work.finish()


def test_other_images_are_another_clip() -> None:
    first = Control(Path("rgb"), {0: IMAGE}, {0: 0.5})
    others = [
        Control(Path("rgb"), {0: 255 - IMAGE}, {0: 0.5}),
        Control(Path("rgb"), {1: IMAGE}, {1: 0.5}),
        Control(Path("rgb"), {0: IMAGE}),
    ]
    assert digest([first]) == digest([Control(Path("rgb"), {0: IMAGE.copy()}, {0: 0.5})])
    assert len({digest([control]) for control in (first, *others)} | {digest([])}) == 5
    assert digest([]) == ""
