"""The samplers by name, as diffusers' schedulers on the betas that the motion module was trained with."""

from __future__ import annotations

from typing import Any

import diffusers

from motion.models.motion.architecture import SCHEDULES, Betas
from motion.settings.settings import LCM_STEPS

STABLE_DIFFUSION = SCHEDULES["scaled_linear"]
"""The image models' own schedule, for frames without a motion module."""

# The same name gives the same clip as in the WebUI. Its DDIM steps as the authors of AnimateDiff do, t = 1,
# 1 + 1000/steps, ... without clipping, but leaves out the last step, from t = 1; its Euler goes from the last time step
# to the first (k-diffusion).
_LEADING = {"timestep_spacing": "leading"}
_WHOLE = {"timestep_spacing": "linspace"}
_SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {"clip_sample": False, **_LEADING}),
    "euler": ("EulerDiscreteScheduler", _WHOLE),
    "euler_a": ("EulerAncestralDiscreteScheduler", _WHOLE),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", _LEADING),
    "lcm": ("LCMScheduler", {"clip_sample": False, "original_inference_steps": LCM_STEPS, **_LEADING}),
}


def scheduler(sampler: str, betas: Betas, steps: int) -> Any:
    """A diffusers scheduler for `steps` steps, its time steps set."""
    name, options = _SCHEDULERS[sampler]
    schedule = {"beta_schedule": betas.schedule, "beta_start": betas.start, "beta_end": betas.end}
    made = getattr(diffusers, name)(**schedule, steps_offset=1, **options)
    made.set_timesteps(steps)
    if sampler == "ddim" and steps > 1:
        made.timesteps = made.timesteps[:-1]
    return made
