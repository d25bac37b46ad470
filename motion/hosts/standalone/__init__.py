"""The standalone host: any SD1.5 or SDXL checkpoint on diffusers, offline.

    host = Standalone.open("checkpoint.safetensors")
    frames = host.render(Clip(prompt="a red circle moving right"), motion.load("v3_sd15_mm.ckpt"))

torch and diffusers are imported by the first use of `Standalone`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from motion.hosts.standalone.lora import Lora

if TYPE_CHECKING:
    from motion.hosts.standalone.host import Standalone

__all__ = ["Lora", "Standalone"]


def __getattr__(name: str) -> Any:
    if name != "Standalone":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from motion.hosts.standalone.host import Standalone

    return Standalone
