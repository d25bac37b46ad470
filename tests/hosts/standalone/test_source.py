"""Video to video in the standalone host: what a clip is made of, how far it leaves it, and from file to file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import motion
from motion.cli import main as cli
from motion.errors import MotionError
from motion.fields.table import Size
from motion.hosts.source import Source
from motion.hosts.standalone import Networks, Standalone
from motion.models.motion.architecture import SCHEDULES
from motion.settings.parameters import parse_infotext
from motion.settings.settings import Clip
from motion.techniques.freeinit import FRESH_SEED, reinitialize_noise
from motion.video.read import read
from motion.video.write import write
from motion.weights.bundled import DEMO
from tests.support.small import far

CLIP = Clip(prompt="a cat", frames=3, steps=4, seed=1, size=Size(64, 64), cfg=1.0, context_length=0)
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")


@pytest.fixture(scope="module")
def host(tiny: Path) -> Standalone:
    return Standalone.open(tiny / "sd15.safetensors", device="cpu")


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five frames of 96 x 64, each of other pixels."""
    path = tmp_path_factory.mktemp("source") / "movie.webp"
    draw = np.random.default_rng(3)
    write((draw.integers(0, 255, (64, 96, 3), np.uint8) for _ in range(5)), path, 10, "")
    return path


@pytest.mark.parametrize("sampler", ["ddim", "euler", "euler_a", "dpmpp_2m", "lcm"])
def test_every_sampler_begins_where_the_strength_says(host: Standalone, movie: Path, sampler: str) -> None:
    """A share of the steps is taken; more of them leave the source farther."""
    clip, taken, frames = replace(CLIP, sampler=sampler, steps=8), [], []
    for strength in (0.0, 0.5, 1.0):
        steps: list[int] = []
        drawn = replace(clip, strength=strength)
        frames.append(host.render(drawn, progress=lambda done, _, into=steps: into.append(done), source=Source(movie)))
        taken.append(steps[-1] - steps[0])
    assert taken == [1, taken[-1] // 2 + 1, taken[-1]] and taken[-1] >= 7  # DDIM leaves one of its steps out
    assert (frames[0] != frames[1]).any() and (frames[1] != frames[2]).any()


def test_each_frame_begins_with_its_own_of_the_source(host: Standalone, tiny: Path, movie: Path) -> None:
    """Also where more are drawn than the clip has: with a motion module it is 16."""
    clip = replace(CLIP, noise="constant", strength=0.0, scale=0.0)
    for module in (None, motion.load(tiny / "v3.safetensors")):
        frames, later = (host.render(clip, module, source=Source(movie, start)).astype(int) for start in (0, 1))
        assert np.abs(frames[1:] - later[:-1]).max() <= 1
        assert np.abs(frames[0] - frames[1]).max() > 1


def test_several_clips_are_made_of_one_source(host: Standalone, movie: Path) -> None:
    clips = [CLIP, replace(CLIP, seed=2)]
    together = host.render_all(clips, source=Source(movie))
    for clip, drawn in zip(clips, together, strict=True):
        assert np.abs(drawn.astype(int) - host.render(clip, source=Source(movie))).max() <= 1


def test_each_round_of_freeinit_begins_with_the_source(host: Standalone, movie: Path) -> None:
    """In the noise that it makes of the round before."""

    def latents(clip: Clip, noise: Tensor | None = None) -> Tensor:
        return host._latents([clip], Networks(), None, source=Source(movie), noise=noise)[0]

    shape = CLIP.frames, 4, CLIP.size.height // 8, CLIP.size.width // 8
    noise, fresh = (
        torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        for seed in (CLIP.seed, CLIP.seed + FRESH_SEED)
    )
    alpha = float(SCHEDULES["scaled_linear"].alphas_cumprod()[-1])
    again = reinitialize_noise(latents(CLIP), noise, fresh, alpha)
    assert far(latents(replace(CLIP, freeinit=2)), latents(CLIP, again)) <= 1e-4
    assert far(latents(CLIP, again), latents(CLIP)) > 1e-3


def test_a_source_has_as_many_frames_as_the_clip(host: Standalone, movie: Path) -> None:
    with pytest.raises(MotionError, match="has 5 frames and the clip 9"):
        host.render(replace(CLIP, frames=9), source=Source(movie))


def test_a_clip_follows_its_source(movie: Path, tmp_path: Path) -> None:
    """Frames and rate are those of the file, of the range that is used, unless they are given."""
    files = ["--demo", "--prompt", "a green square", "--init", str(movie), "--device", "cpu", "--steps", "1"]
    assert cli.main(["render", *files, "--out", str(tmp_path / "clip.webp"), "--init-every", "2"]) == 0
    clip = read(tmp_path / "clip.webp")
    described, extra = parse_infotext(clip.parameters or "")
    assert (described.frames, described.fps, extra["Source"]) == (3, 5.0, f"{movie.name}, every 2.")
    assert described.size == Size(*map(int, DEMO["size"].split("x")))
    assert cli.main(["render", *files, "--out", str(tmp_path / "two.webp"), "--frames", "2"]) == 0
    assert len(read(tmp_path / "two.webp").frames) == 2
