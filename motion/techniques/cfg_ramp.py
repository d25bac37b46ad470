"""CFG over frames: guidance that rises or falls along the clip (Stable Video Diffusion)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from motion.fields.table import Number, setting
from motion.techniques.technique import Moment, Plan, Technique, refuse_without_guidance


@dataclass(frozen=True)
class CfgRampSettings:
    """The CFG scales at both ends of a clip."""

    cfg_first: float = setting(
        Number, 0.0, "CFG of the first frame", "from here the CFG scale goes straight to the last frame's; 0 = as set",
        0, 100, 0.5, 30, key="Motion CFG first", group="guidance",
    )  # fmt: skip
    cfg_last: float = setting(
        Number, 0.0, "CFG of the last frame", "where the CFG scale ends over the frames; 0 = as set",
        0, 100, 0.5, 30, key="Motion CFG last", group="guidance",
    )  # fmt: skip


class CfgRamp(Technique):
    """A straight line of CFG scales over the frames.

    Source: Blattmann et al. 2023, "Stable Video Diffusion" (arXiv:2311.15127), section 4.3.
    """

    label = "CFG over frames"
    paper = "arXiv:2311.15127"

    def __init__(self, settings: CfgRampSettings) -> None:
        self.ends = settings.cfg_first, settings.cfg_last

    @staticmethod
    def wanted(settings: CfgRampSettings) -> bool:
        return settings.cfg_first > 0 or settings.cfg_last > 0

    def check(self, plan: Plan) -> None:
        refuse_without_guidance(self, plan)

    def scales(self, moment: Moment, cfg: float) -> Sequence[float]:
        """Frames behind the kept ones have the last one's."""
        first, last = (end or cfg for end in self.ends)
        whole = max(1, moment.kept - 1)
        return [first + (last - first) * min(frame / whole, 1) for frame in range(moment.frames)]
