"""Settings of clips that lead the UNet by their structure."""

from __future__ import annotations

from dataclasses import dataclass

from motion.fields.table import Number, setting


@dataclass(frozen=True)
class StructureSettings:
    """How much of their structure is kept."""

    structure_blur: int = setting(
        Number, 0, "Structure blur", "times that what ControlNets are shown is blurred and halved; 0 = as it is",
        0, 7, 1, 7,
        key="Motion structure blur", group="source", needs=("source_control",),
    )  # fmt: skip
