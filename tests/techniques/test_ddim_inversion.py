"""DDIM inversion: the authors' trajectory, and the way back."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from motion.errors import MotionError
from motion.fields.weighted import Weighted
from motion.settings.settings import Clip
from motion.techniques.ddim_inversion import invert, moved
from motion.techniques.registry import check, techniques_of
from motion.techniques.technique import Plan
from tests.conftest import ORACLE
from tests.support.small import far

FILE = ORACLE / "techniques" / "tuneavideo_inversion.safetensors"
ALPHAS = [0.999, 0.9, 0.7, 0.4, 0.1, 0.01]


def test_the_trajectory_is_tune_a_videos() -> None:
    """Each step's noise is asked for with the latents of the level before."""
    numbers = {name: tensor.double() for name, tensor in load_file(FILE).items()}
    traced, eps = numbers["latents"], numbers["eps"]
    alphas = [float(numbers["alpha_from"][0]), *numbers["alpha_to"].tolist()]
    asked: list[float] = []

    def predict(noisy: Tensor, step: int) -> Tensor:
        asked.append(far(noisy, traced[step]))
        return eps[step]

    found = list(invert(traced[0], alphas, predict))
    assert max(asked) <= 1e-6 and len(asked) == len(eps)
    assert max(far(one, other) for one, other in zip(found, traced[1:], strict=True)) <= 1e-6


def network(noisy: Tensor, step: int) -> Tensor:
    """What a network might say at the level of a step's end."""
    return 0.4 * torch.tanh(noisy) + 0.1 * step


def back(noisy: Tensor) -> Tensor:
    """DDIM's way down again."""
    for step in reversed(range(len(ALPHAS) - 1)):
        noisy = moved(noisy, network(noisy, step), ALPHAS[step + 1], ALPHAS[step])
    return noisy


def test_with_more_evaluations_the_way_back_ends_where_it_began() -> None:
    clip = torch.randn(4, 4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    errors = []
    for evaluations in (1, 2, 3, 40):
        *_, noisy = invert(clip, ALPHAS, network, evaluations)
        errors.append(far(back(noisy), clip))
    assert errors[0] > errors[1] > errors[2] > errors[3]
    assert errors[3] <= 1e-9


@pytest.mark.parametrize(("before", "after"), [(0.9, 0.2), (0.2, 0.9)])
def test_a_step_keeps_clip_and_noise(before: float, after: float) -> None:
    clip, noise = torch.randn(2, 3, dtype=torch.float64)
    latents = math.sqrt(before) * clip + math.sqrt(1 - before) * noise
    assert far(moved(latents, noise, before, after), math.sqrt(after) * clip + math.sqrt(1 - after) * noise) <= 1e-12


@pytest.mark.parametrize(
    ("settings", "plan", "sentence"),
    [
        ({}, {"begins_with_noise": True}, "no clip to find it in"),
        ({}, {"sampler": "Euler a"}, "sampler is Euler a: only DDIM and Euler"),
        ({"noise_layers": (Weighted("constant", 1.0),)}, {}, "noise layers away"),
        ({"freeinit": 3}, {}, "FreeInit is 3"),
    ],
)
def test_what_has_no_noise_of_its_own_is_refused(settings: Any, plan: Any, sentence: str) -> None:
    drawn_as = {"begins_with_noise": False, "sampler": "Euler", **plan}
    asked = techniques_of(Clip(noise="inverted", **settings))
    with pytest.raises(MotionError, match=sentence):
        check(asked, Plan(7, **drawn_as))
    check(techniques_of(Clip(**settings)), Plan(7, **drawn_as))
