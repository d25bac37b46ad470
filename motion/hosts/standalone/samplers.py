"""The samplers by name, as diffusers' schedulers on the betas that the motion module was trained with."""

from __future__ import annotations

from typing import Any, NamedTuple

import diffusers
import torch

from motion.hosts.standalone.parts import Parameterization
from motion.models.motion.architecture import SCHEDULES, STABLE_DIFFUSION, Betas
from motion.models.motion.model import MotionModel
from motion.settings.settings import LCM_STEPS, Clip

FEW_STEPS = 8
"""Steps up to which Euler's are those that AnimateDiff-Lightning was distilled on."""

TIMES = 1000
"""Time steps of the noise schedule."""

SCHEDULE_TYPES = {"leading": "DDIM", "linspace": "Uniform", "trailing": "SGM Uniform"}
"""The WebUI's schedule type of each spacing."""


# The same name gives the same clip as in the WebUI. Its Euler goes from the last time step to the first (k-diffusion).
_SCHEDULERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ddim": ("leading", "DDIMScheduler", {"clip_sample": False}),
    "euler": ("linspace", "EulerDiscreteScheduler", {}),
    "euler_a": ("linspace", "EulerAncestralDiscreteScheduler", {}),
    "dpmpp_2m": ("linspace", "DPMSolverMultistepScheduler", {}),
    "lcm": ("leading", "LCMScheduler", {"clip_sample": False, "original_inference_steps": LCM_STEPS}),
}
# DDIM is the first order of DPM-Solver (Lu et al., https://arxiv.org/abs/2206.00927, section 4.1). diffusers' own class
# goes back by 1000 // steps, wherever its next time lies.
_DDIM_BETWEEN_ANY_TIMES = ("DPMSolverMultistepScheduler", {"solver_order": 1})


def betas_of(clip: Clip, module: MotionModel | None) -> Betas:
    """The noise schedule by which the clip is drawn with that motion module, or with none."""
    if module is None:
        return SCHEDULES.get(clip.betas, STABLE_DIFFUSION)
    return module.architecture.family.schedule(clip.betas)


def spacing_of(sampler: str, steps: int, spacing: str = "auto", zero_snr: bool = False) -> str:
    """The spacing of steps (Lin et al., https://arxiv.org/abs/2305.08891, table 2) that `spacing` means.

    A single step begins in pure noise, whatever the spacing; so does a model that was trained there.
    """
    few = sampler in ("euler", "euler_a") and steps <= FEW_STEPS
    if steps == 1 or (spacing == "auto" and (few or zero_snr)):
        return _SCHEDULERS[sampler][0] if sampler == "lcm" else "trailing"
    return _SCHEDULERS[sampler][0] if spacing == "auto" else spacing


def schedule_type(clip: Clip, model: Parameterization) -> str:
    """What the WebUI calls the spacing of the clip's steps; empty for samplers that leave it no choice."""
    if clip.sampler in ("ddim", "lcm"):
        return ""
    return SCHEDULE_TYPES[spacing_of(clip.sampler, clip.steps, clip.spacing, model.zero_snr)]


class Levels(NamedTuple):
    """For each step of a scheduler its time step, its noise level, and what it scales latents by that have one unit of
    picture to each unit of noise level (k-diffusion's)."""

    times: list[float]
    sigmas: list[float]
    scales: list[float]


def levels(sampler: str, scheduler: Any) -> Levels:
    """Those of a sampler's `scheduler`, whose time steps are set."""
    times = scheduler.timesteps
    if sampler in ("euler", "euler_a"):
        return Levels(times.tolist(), scheduler.sigmas[: len(times)].tolist(), [1.0] * len(times))
    alphas = scheduler.alphas_cumprod[times.long()]
    return Levels(times.tolist(), ((1 - alphas) / alphas).sqrt().tolist(), alphas.sqrt().tolist())


def scheduler(
    sampler: str,
    betas: Betas,
    steps: int,
    spacing: str = "auto",
    model: Parameterization | None = None,
) -> Any:
    """A diffusers scheduler for `steps` steps of `model`, its time steps set.

    Leading steps go in strides of 1000 // steps, as many as there is room for: as the paper and the WebUI have it, and
    not only the first `steps` of them, which would begin in the middle of the noise.
    """
    model = model or Parameterization()
    spacing = spacing_of(sampler, steps, spacing, model.zero_snr)
    _, name, options = _SCHEDULERS[sampler]
    if sampler == "ddim" and spacing != "leading":
        name, options = _DDIM_BETWEEN_ANY_TIMES
    schedule = {"beta_schedule": betas.schedule, "beta_start": betas.start, "beta_end": betas.end}
    trained = {"prediction_type": model.prediction, "rescale_betas_zero_snr": model.zero_snr}
    made = getattr(diffusers, name)(**schedule, **trained, steps_offset=1, timestep_spacing=spacing, **options)
    if spacing == "leading" and sampler != "lcm":
        beside = int(name == "DPMSolverMultistepScheduler")  # it leaves out the stride that ends at t = 1
        steps = TIMES // (TIMES // (steps + beside)) - beside
    made.set_timesteps(steps)
    if name == "DDIMScheduler":  # the WebUI's leaves it out as well, and takes a last stride that is cut short
        made.timesteps = torch.arange(1, TIMES + 1, TIMES // steps)[1:].flip(0).clamp(max=TIMES - 1)
    elif len(made.timesteps) > steps:  # diffusers counts in floats, and of 61 trailing steps makes 62
        made.timesteps, made.sigmas = made.timesteps[:steps], torch.cat([made.sigmas[:steps], made.sigmas[-1:]])
    return made


def last_alpha(made: Any) -> float:
    """The cumulative alpha at which a scheduler leaves the clip."""
    if isinstance(made, diffusers.DDIMScheduler):
        t = int(made.timesteps[-1]) - TIMES // made.num_inference_steps
        return float(made.alphas_cumprod[t] if t >= 0 else made.final_alpha_cumprod)
    return 1 / (1 + float(made.sigmas[-1]) ** 2)
