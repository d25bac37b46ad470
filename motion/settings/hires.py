"""Settings of a second pass in a larger size."""

from __future__ import annotations

from dataclasses import dataclass

from motion.fields.table import Number, Size, setting

STEP = 8
"""Sides of a frame are multiples of it."""


@dataclass(frozen=True)
class HiresSettings:
    """How much larger, and how much of the first pass is drawn anew."""

    hires: float = setting(
        Number, 1.0, "Hires fix", "draws the clip a second time, so many times as large; 1 = off",
        1, 4, 0.05, 2, key="Hires upscale", group="hires",
    )  # fmt: skip
    hires_strength: float = setting(
        Number, 0.5, "Hires strength", "how much the second pass draws anew: 0 = least, 1 = all of it",
        0, 1, 0.05, 1, key="Hires strength", group="hires", needs=("hires",),
    )  # fmt: skip

    def enlarged(self, size: Size) -> Size:
        """The size of the second pass, or the same where there is none."""
        if self.hires == 1:
            return size
        return Size(*(round(side * self.hires / STEP) * STEP for side in size))
