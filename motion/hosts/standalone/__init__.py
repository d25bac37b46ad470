"""The standalone host: any SD1.5 or SDXL checkpoint on diffusers, offline.

    host = Standalone.open("checkpoint.safetensors")
    frames = host.render(Clip(prompt="a red circle moving right"), motion.load("v3_sd15_mm.ckpt"))

torch and diffusers are imported by the first use of `Standalone` and of `Networks`, which is what else draws.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from motion.hosts.standalone.networks.lora import Lora

if TYPE_CHECKING:
    from motion.hosts.standalone.host import Standalone
    from motion.hosts.standalone.networks.networks import Networks

__all__ = ["Lora", "Networks", "Standalone"]

LATE = {"Networks": "motion.hosts.standalone.networks.networks", "Standalone": "motion.hosts.standalone.host"}


def __getattr__(name: str) -> Any:
    if name not in LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(LATE[name]), name)
