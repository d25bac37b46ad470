"""Temporal layers for Stable Diffusion UNets: load a motion module, attach it, and frames move together.

``import motion`` is cheap: torch is imported by the first use of a name below.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from motion.errors import MotionError

if TYPE_CHECKING:
    from motion import lora
    from motion.animation import attach
    from motion.network.model import MotionModel
    from motion.weights.checkpoint import load

__version__ = "0.1.0"
__all__ = ["MotionError", "MotionModel", "__version__", "attach", "load", "lora"]

_HOMES = {
    "attach": "motion.animation",
    "load": "motion.weights.checkpoint",
    "MotionModel": "motion.network.model",
}


def __getattr__(name: str) -> Any:
    if name == "lora":
        return import_module("motion.lora")  # which makes it an attribute of this package
    if name not in _HOMES:
        raise AttributeError(f"module 'motion' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
