"""SparseCtrl: a clip obeys images at some of its frames.

    control = sparsectrl.load("v3_sd15_sparsectrl_rgb.ckpt")
    cond = sparsectrl.condition({0: first, -1: last}, frames=16)
    with sparsectrl.attach(unet, control, cond, frames=16):
        ...

``import sparsectrl`` is cheap: torch is imported by the first use of a name below.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsectrl.checkpoint import load
    from sparsectrl.conditioning import condition
    from sparsectrl.control import attach
    from sparsectrl.effect import Effect, Influence
    from sparsectrl.encoder import SparseEncoder

__all__ = ["Effect", "Influence", "SparseEncoder", "attach", "condition", "load"]

_HOMES = {
    "Effect": "sparsectrl.effect",
    "Influence": "sparsectrl.effect",
    "attach": "sparsectrl.control",
    "condition": "sparsectrl.conditioning",
    "load": "sparsectrl.checkpoint",
    "SparseEncoder": "sparsectrl.encoder",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sparsectrl' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
