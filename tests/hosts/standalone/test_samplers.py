"""Where steps lie, and that every sampler ends where the differential equation of diffusion leads."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from motion.fields.table import Size
from motion.hosts.standalone import Standalone
from motion.hosts.standalone.parts import Parameterization
from motion.hosts.standalone.samplers import scheduler, spacing_of
from motion.models.motion.architecture import FAMILIES
from motion.settings.choices import SAMPLERS, SPACINGS
from motion.settings.settings import Clip

# diffusers 0.42 turns tensors into arrays in a way NumPy 2.4 frowns upon, whenever a scheduler holds sigmas.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")

BETAS = FAMILIES["v3"].betas
VELOCITY = Parameterization("v_prediction")
ANY = [(sampler, spacing) for sampler in SAMPLERS for spacing in SPACINGS if sampler != "lcm" or spacing == "auto"]


def times(sampler: str, steps: int, spacing: str = "auto", model: Parameterization | None = None) -> list[float]:
    return [float(t) for t in scheduler(sampler, BETAS, steps, spacing, model).timesteps]


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_few_steps_are_those_of_the_webuis_sgm_uniform(steps: int) -> None:
    """It divides from 999 to 0, where Euler's trailing steps are whole ones: less than one of 1000 apart."""
    webui = torch.linspace(999, 0, steps + 1)[:-1].tolist()
    assert all(0 <= there - here < 1 for there, here in zip(webui, times("euler", steps), strict=True))


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_few_steps_are_those_of_the_webuis_simple_and_of_hyper_sd(steps: int) -> None:
    """Simple takes each n-th of the noise levels from the largest on, cut down; Hyper-SD's DDIM steps are trailing."""
    webui = [999 - int(step * 1000 / steps) for step in range(steps)]
    assert times("euler", steps) == times("ddim", steps, "trailing") == webui


@pytest.mark.parametrize("steps", [4, 6, 8])
def test_lcm_steps_are_near_those_of_the_webuis_sgm_uniform(steps: int) -> None:
    """Theirs divide 50 noise levels, each 20th from 19 to 999, ours are whole ones of 100: less than 20 apart."""
    webui = torch.linspace(999, 19, steps + 1)[:-1].tolist()
    assert all(abs(there - here) < 20 for there, here in zip(webui, times("lcm", steps), strict=True))


def test_schedules_follow_the_betas_and_step_as_in_the_webui() -> None:
    assert scheduler("ddim", BETAS, 4).betas.sum() == pytest.approx(float(BETAS.values().sum()), rel=1e-5)
    assert times("ddim", 4) == [751, 501, 251]
    assert times("ddim", 30) == [991 - 33 * i for i in range(30)]
    assert times("euler", 4, "linspace") == [999, 666, 333, 0]
    assert times("euler", 9) == times("euler", 9, "linspace")


@pytest.mark.parametrize("sampler", ["euler", "euler_a"])
def test_few_steps_of_euler_are_those_that_lightning_was_distilled_on(sampler: str) -> None:
    """ByteDance/AnimateDiff-Lightning's example: `timestep_spacing="trailing"`, linear betas."""
    assert times(sampler, 2) == [999, 499]
    assert times(sampler, 4) == [999, 749, 499, 249]
    assert times(sampler, 8) == [999, 874, 749, 624, 499, 374, 249, 124]


@pytest.mark.parametrize(("sampler", "spacing"), ANY)
def test_steps_go_down_from_the_noise(sampler: str, spacing: str) -> None:
    for steps in (1, 2, 3, 20, 61, 99, 100, *(() if sampler == "lcm" else (121, 167, 201, 249, 250))):
        found = times(sampler, steps, spacing)
        assert 999 >= found[0] >= (940 if steps >= 20 else 500) and found[-1] >= 0
        assert all(above > below for above, below in pairwise(found))
        assert len(found) == steps or spacing_of(sampler, steps, spacing) == "leading"
        assert len(found) >= steps - 1


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_single_step_begins_in_pure_noise(sampler: str, spacing: str) -> None:
    assert times(sampler, 1, spacing) == [999]


def drawn(sampler: str, spacing: str, steps: int, model: Parameterization) -> Tensor:
    """What becomes of one noise where all pictures are a normal distribution with a spread of 0.5, so that the best
    prediction is known."""
    made = scheduler(sampler, BETAS, steps, spacing, model)
    noise = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    x = noise * made.init_noise_sigma
    for t in made.timesteps:
        alpha = made.alphas_cumprod[int(t)]
        scaled = made.scale_model_input(x, t)
        clean = scaled * alpha.sqrt() * 0.25 / (alpha * 0.25 + 1 - alpha)
        rest = (scaled - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        velocity = alpha.sqrt() * rest - (1 - alpha).sqrt() * clean
        predicted = rest if model.prediction == "epsilon" else velocity
        options: dict[str, Any] = {"generator": torch.Generator().manual_seed(2), "return_dict": False}
        x = made.step(predicted, t, x, **options)[0]
    return x / noise


@pytest.mark.parametrize(("sampler", "spacing"), ANY)
def test_noise_or_velocity_is_the_same_clip(sampler: str, spacing: str) -> None:
    one, other = (drawn(sampler, spacing, 10, model) for model in (Parameterization(), VELOCITY))
    torch.testing.assert_close(other, one, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize("sampler", ["ddim", "euler", "dpmpp_2m"])
def test_samplers_solve_the_differential_equation(sampler: str, spacing: str) -> None:
    """Where pictures are normal with a spread of 0.5, it makes 0.5 of the noise, for any number of steps that is large
    enough, also one that does not divide 1000."""
    assert drawn(sampler, spacing, 201, Parameterization()).mean() == pytest.approx(0.5, rel=0.05)


def test_a_model_without_any_signal_begins_there() -> None:
    model = Parameterization("v_prediction", zero_snr=True)
    for sampler in ("ddim", "euler", "dpmpp_2m"):
        assert times(sampler, 25, model=model)[0] == 999
        assert float(scheduler(sampler, BETAS, 25, model=model).alphas_cumprod[-1]) < 1e-6
        assert drawn(sampler, "auto", 201, model).mean() == pytest.approx(0.5, rel=0.05)


def test_noise_in_steps_may_be_the_same_in_all_frames(tiny: Path) -> None:
    """Frames that begin alike and are told the same stay alike, with a sampler that adds noise, and only then."""
    host = Standalone.open(tiny / "sd15.safetensors", device="cpu")
    clip = Clip(prompt="a cat", frames=3, steps=2, seed=1, size=Size(64, 64), cfg=1.0, noise="constant")
    for sampler, adds in (("euler_a", True), ("ddim", False)):
        own, alike = (host.render(replace(clip, sampler=sampler, step_noise=kind)) for kind in ("own", "constant"))
        assert (alike == alike[:1]).all()
        assert (own == alike).all() != adds
