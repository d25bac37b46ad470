"""Clips by one-shot tuning in the standalone host, and the whole way on the command line: tune, invert, draw anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from motion.cli import main as cli
from motion.errors import MotionError
from motion.fields.table import Size
from motion.hosts.standalone import Networks, Standalone
from motion.models import sites
from motion.models.motion.model import MotionModel
from motion.models.one_shot import OneShotModel
from motion.settings.settings import Clip
from motion.video.read import read_parameters
from motion.video.write import write

CLIP = Clip(prompt="a cat", frames=4, steps=3, seed=1, size=Size(64, 64))
FRAMES = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def host(tiny: Path) -> Standalone:
    return Standalone.open(tiny / "sd15.safetensors", device="cpu")


@pytest.fixture
def tuned(host: Standalone) -> Networks:
    """A model that acts."""
    model = OneShotModel.of_blocks(sites.spatial_blocks(host.parts.unet))
    for block in model.blocks.values():
        for parameter in block.attn_temp.to_out.parameters():
            nn.init.normal_(parameter, std=0.2)
    return Networks(one_shot=model.eval().requires_grad_(False))


def test_frames_move_by_it_from_the_noise_of_another_clip(host: Standalone, tuned: Networks) -> None:
    noise = host.invert(replace(CLIP, prompt=""), FRAMES, tuned)
    assert noise.shape == (4, 4, 8, 8)
    drawn = host.render(CLIP, tuned, noise=noise)
    assert (drawn == np.stack(list(host.stream(CLIP, tuned, noise=noise)))).all()
    for other in (host.render(CLIP, tuned), host.render(CLIP, noise=noise)):
        assert (drawn != other).any()


def test_windows_cut_it(host: Standalone, tuned: Networks) -> None:
    whole = host.render(replace(CLIP, context_length=4), tuned)
    assert (whole == host.render(CLIP, tuned)).all()
    assert (whole != host.render(replace(CLIP, context_length=2, context_overlap=1), tuned)).any()


def test_what_else_moves_frames_is_refused(host: Standalone, tuned: Networks, v3: MotionModel) -> None:
    with pytest.raises(MotionError, match="leave these out"):
        host.render(CLIP, replace(tuned, module=v3))
    with pytest.raises(MotionError, match="leave these out"):
        host.render(replace(CLIP, cross_frame="full"), tuned)


def test_the_commands_tune_and_draw(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(FRAMES, tmp_path / "clip.png", 8)
    model = ["--checkpoint", str(tiny / "sd15.safetensors"), "--device", "cpu"]
    tune = ["--data", str(tmp_path / "clip.png"), "--prompt", "noise", "--size", "64x64", "--frames", "4"]
    assert cli.main(["train", "one-shot", *model, *tune, "--stride", "1", "--steps", "1", "--out", str(tmp_path)]) == 0
    file = capsys.readouterr().out.strip()
    draw = ["--one-shot", file, "--invert", str(tmp_path / "clip.png"), "--prompt", "a cat", "--steps", "2"]
    assert cli.main(["render", *model, *draw, "--out", str(tmp_path / "anew.gif")]) == 0
    told = read_parameters(tmp_path / "anew.gif") or ""
    assert "Tune-A-Video: one-shot" in told and "Inverted source: clip.png" in told and "Size: 64x64" in told
    assert cli.main(["render", *model, *draw, "--init", "other.gif", "--out", str(tmp_path / "b.gif")]) == 2
    assert "give --init or --invert" in capsys.readouterr().err


def test_a_clip_that_does_not_move_is_refused(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(FRAMES[:1], tmp_path / "still.png", 8)
    model = ["--checkpoint", str(tiny / "sd15.safetensors"), "--device", "cpu", "--prompt", "a cat"]
    data = ["--data", str(tmp_path / "still.png"), "--out", str(tmp_path / "run")]
    assert cli.main(["train", "one-shot", *model, *data]) == 2
    assert "shows one frame" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
