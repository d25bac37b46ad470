"""Settings of the temporal layers, beyond how strongly they act."""

from __future__ import annotations

from dataclasses import dataclass

from motion.fields.table import setting
from motion.fields.varying import Varying


@dataclass(frozen=True)
class LayerSettings:
    """What becomes of their attention."""

    attention_scale: float | str = setting(
        Varying, 1.0, "Attention scale", "how sharply frames look at each other; below 1: less motion; or a curve",
        0, 10, 0.05, 2, key="Motion attention scale", group="layers",
        detail="the keys of the motion module's attention are multiplied by it",
    )  # fmt: skip
