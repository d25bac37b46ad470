"""ControlVideo's smoother: the authors' frames and latents, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from motion.errors import MotionError
from motion.models.motion.architecture import STABLE_DIFFUSION
from motion.settings.settings import Clip
from motion.techniques.interleaved_smoothing import InterleavedSmoothing, interleave, keep_noise
from motion.techniques.technique import Moment, Pictures, Plan, Step
from tests.support.small import far

OracleOf = Callable[[str], dict[str, Tensor]]
ALPHAS = STABLE_DIFFUSION.alphas_cumprod()
LEVELS = ((1 - ALPHAS) / ALPHAS).sqrt()


@pytest.mark.parametrize("step", [2, 3])
def test_frames_and_latents_are_the_authors(step: int, oracle_of: OracleOf) -> None:
    """With the mean for the frame between two; then by DDIM, which in k-diffusion's units is Euler."""
    io = oracle_of("techniques/controlvideo_smoother")
    before, after = (io[f"smooth_i{step}_rgb_{name}"] for name in ("before", "after"))
    found = interleave(list(before), step, lambda first, second: (first + second) / 2)
    assert far(torch.stack(found), after) <= 1e-6

    times = io["traj_t"].tolist()
    now, following = times[step], times[step + 1]
    x0, x, wanted = (
        io[name][at][0].transpose(0, 1).double()
        for name, at in (("x0", step - 1), ("traj", step - 2), ("traj", step - 1))
    )
    sigma, sigma_next = LEVELS[now], LEVELS[following].item()
    told = keep_noise(io[f"smooth_i{step}_x0_smoothed_latents"].double(), x0, sigma, sigma_next)
    x = x / ALPHAS[now].sqrt()
    stepped = told + sigma_next / sigma * (x - told)
    assert far(stepped * ALPHAS[following].sqrt(), wanted) <= 1e-5


@pytest.mark.parametrize(
    ("frames", "step", "wanted"),
    [
        (5, 0, "0 (02) 2 (24) 4"),
        (6, 0, "0 (02) 2 (24) 4 5"),
        (5, 1, "(01) 1 (13) 3 (34)"),
        (6, 1, "(01) 1 (13) 3 (35) 5"),
    ],
)
def test_every_second_frame_is_drawn_anew(frames: int, step: int, wanted: str) -> None:
    assert interleave(list(map(str, range(frames))), step, "({}{})".format) == wanted.split()


def flickering(strength: float) -> Tensor:
    """A dot that moves evenly, in frames that are by turns lighter and darker."""
    place = np.arange(32)
    frames = [
        np.exp(-((place - 8 - 2 * n) ** 2) / 20)[None] * np.exp(-((place - 16) ** 2) / 20)[:, None] for n in range(8)
    ]
    light = [0.6 + strength * (-1) ** n * 0.2 for n in range(8)]
    return torch.tensor(
        np.stack([np.stack([frame * level] * 3) for frame, level in zip(frames, light, strict=True)])
    ).float()


def smoothed(x: Tensor, at: int) -> Tensor:
    """The frames as the technique leaves them, where pictures are the latents."""
    technique = InterleavedSmoothing(Clip(smoothing=0.5))
    pictures = Pictures(lambda latents: latents.clamp(0, 1), lambda shown: shown)
    sigma = torch.full((len(x), 1, 1, 1), 2.0)
    step = Step(Moment(len(x), len(x), at, 10, 0.0), x, sigma, {"cond": x}, lambda _: x, {}, pictures)
    return technique.edit(step, x)


def test_flicker_is_taken_out_and_motion_stays() -> None:
    flicker, even = flickering(1), flickering(0)
    calm = smoothed(smoothed(flicker, 5), 6)
    before, after = (frames[2:].mean((1, 2, 3)).std() for frames in (flicker, calm))
    assert after < before / 4
    assert far(smoothed(even, 5)[1:], even[1:]) < 0.01  # at the ends a frame is drawn between itself and one neighbour


def test_other_steps_are_bit_equal() -> None:
    x = flickering(1)
    assert all(smoothed(x, step).equal(x) for step in (0, 4, 7, 9))


def test_samplers_that_make_their_noise_anew_are_refused() -> None:
    technique = InterleavedSmoothing(Clip(smoothing=0.6))
    with pytest.raises(MotionError, match="choose DDIM or Euler"):
        technique.check(Plan(8, frames=8, sampler="Euler a"))
    with pytest.raises(MotionError, match="frames is 2"):
        technique.check(Plan(8, frames=2, sampler="Euler"))
