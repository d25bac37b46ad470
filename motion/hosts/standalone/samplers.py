"""The samplers by name, as diffusers' schedulers on the betas that the motion module was trained with."""

from __future__ import annotations

from typing import Any

import diffusers

from motion.network.architecture import SCHEDULES, Betas
from motion.settings import LCM_STEPS

STABLE_DIFFUSION = SCHEDULES["scaled_linear"]
"""The image models' own schedule, for frames without a motion module."""

# The authors of AnimateDiff sample from t = 1, 1 + 1000/steps, ... ("leading" spacing, offset 1) without clipping.
_SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "lcm": ("LCMScheduler", {"clip_sample": False, "original_inference_steps": LCM_STEPS}),
}


def scheduler(sampler: str, betas: Betas, steps: int) -> Any:
    """A diffusers scheduler for `steps` steps, its time steps set."""
    name, options = _SCHEDULERS[sampler]
    schedule = {"beta_schedule": betas.schedule, "beta_start": betas.start, "beta_end": betas.end}
    made = getattr(diffusers, name)(**schedule, steps_offset=1, timestep_spacing="leading", **options)
    made.set_timesteps(steps)
    return made
