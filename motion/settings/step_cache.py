"""Settings of the step cache: how often the deep layers of the UNet are computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from motion.fields.table import Choice, setting

INTERVALS: Mapping[str, int] = MappingProxyType({"off": 1, "light": 2, "balanced": 3, "fast": 5})
"""Steps from one in which everything is computed to the next, by mode."""
CACHES: Mapping[str, str] = MappingProxyType({mode: mode.capitalize() for mode in INTERVALS})


@dataclass(frozen=True)
class StepCacheSettings:
    """Whether steps take over what earlier steps have computed."""

    cache: str = setting(
        Choice, "off", "Step cache", "draws faster by computing most of the network in some steps only; off: in all",
        CACHES, key="Motion step cache", group="motion",
        detail="light: in every 2nd step, balanced: every 3rd, fast: every 5th, and always in the first two and the "
        "last (DeepCache). For 20 steps and more",
    )  # fmt: skip
