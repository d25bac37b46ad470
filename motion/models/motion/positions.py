"""What is made of a motion module's position tables, so that it reaches further or begins later."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from motion.errors import MotionError

if TYPE_CHECKING:  # clips are laid out before torch is there
    from torch import Tensor

    from motion.models.motion.architecture import Architecture


@dataclass(frozen=True)
class Positions:
    """A table of its first ``cap`` rows, interpolated to ``length`` rows, of which the first ``offset`` are left out; 0
    leaves it as it is (ComfyUI-AnimateDiff-Evolved's `cap_initial_pe_length`, `interpolate_pe_to_length` and
    `final_pe_idx_offset`)."""

    cap: int = 0
    length: int = 0
    offset: int = 0

    @classmethod
    def of(cls, settings: Any) -> Positions:
        """As the settings of a clip say."""
        return cls(settings.position_cap, settings.position_length, settings.position_offset)

    def rows(self, rows: int) -> int:
        """What is left of so many rows. Raises MotionError if it is none."""
        left = self.length or min(self.cap or rows, rows)
        if self.offset >= left:
            raise MotionError(f"position offset is {self.offset}: the table has {left} positions, leave one at least")
        return left - self.offset

    def of_architecture(self, architecture: Architecture) -> Architecture:
        """One whose tables are changed."""
        from motion.models.motion.architecture import BUILT_POSITIONS

        if self == AS_TRAINED:
            return architecture
        slots = (replace(slot, positions=self.rows(slot.positions or BUILT_POSITIONS)) for slot in architecture.slots)
        return replace(architecture, slots=tuple(slots))

    def of_table(self, table: Tensor) -> Tensor:
        """``[1, positions, channels]``; between two rows it is linear."""
        from torch.nn import functional as F

        made = table[:, : self.cap or None]
        if self.length:
            made = F.interpolate(made.float().transpose(1, 2), size=self.length, mode="linear").transpose(1, 2)
        return made[:, self.offset :].to(table.dtype)


AS_TRAINED = Positions()
"""The tables as the file has them."""
