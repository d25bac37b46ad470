"""Settings of a clip that is made of another one."""

from __future__ import annotations

from dataclasses import dataclass

from motion.fields.table import Number, setting


@dataclass(frozen=True)
class SourceSettings:
    """How far it may leave its source."""

    strength: float = setting(
        Number, 0.5, "Denoising strength", "how much of the source clip is drawn anew: 0 = least, 1 = all of it",
        0, 1, 0.05, 1, key="Denoising strength", group="source",
    )  # fmt: skip

    mask_blur: int = setting(
        Number, 4, "Mask blur", "pixels over which a mask fades out", 0, 64, 1, 64, key="Mask blur", group="source"
    )

    def first_step(self, steps: int) -> int:
        """The first of ``steps`` that is taken, as the WebUIs count it."""
        return steps - 1 - int(min(self.strength, 0.999) * steps)
