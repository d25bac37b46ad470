"""Temporal layers for Stable Diffusion UNets: load a motion module, attach it, and frames move together.

``import motion`` is cheap: torch is imported by the first use of a name below.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from motion.errors import MotionError

if TYPE_CHECKING:
    from motion.models.motion.model import MotionModel
    from motion.sampling import cross_frame, ip_adapter, lora, one_shot, step_cache, style
    from motion.sampling.animation import attach
    from motion.sampling.arrangement import Arrangement
    from motion.sampling.windows import Windows
    from motion.weights.checkpoint import load

__version__ = "0.1.0"
__all__ = [
    "Arrangement",
    "MotionError",
    "MotionModel",
    "Windows",
    "__version__",
    "attach",
    "cross_frame",
    "ip_adapter",
    "load",
    "lora",
    "one_shot",
    "step_cache",
    "style",
]

_HOMES = {
    "Arrangement": "motion.sampling.arrangement",
    "MotionModel": "motion.models.motion.model",
    "Windows": "motion.sampling.windows",
    "attach": "motion.sampling.animation",
    "load": "motion.weights.checkpoint",
}

_MODULES = ("cross_frame", "ip_adapter", "lora", "one_shot", "step_cache", "style")
"""Modules of `motion.sampling` that are attributes of the package."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value: Any = import_module(f"motion.sampling.{name}")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'motion' has no attribute {name!r}")
    globals()[name] = value
    return value
