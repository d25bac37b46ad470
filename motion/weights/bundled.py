"""The bundled models, and the settings that suit them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

WEIGHTS = Path(__file__).parents[1] / "demo" / "weights"

DEMO: Mapping[str, str] = MappingProxyType(
    {
        "checkpoint": str(WEIGHTS / "sprites.safetensors"),
        "motion": str(WEIGHTS / "sprites-motion.safetensors"),
        "prompt": "a red circle moving right on a navy background",
        "size": "64x64",
        "zoom": "4",
        "steps": "25",
        "cfg": "2",
    }
)
"""What ``render --demo`` takes for every option that is not given, spelled as on the command line."""
