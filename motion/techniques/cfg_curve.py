"""CFG by a curve: guidance of its own for each frame and each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from motion.fields.curve_text import read_curve
from motion.fields.table import setting
from motion.fields.varying import Varying
from motion.techniques.technique import Moment, Plan, Technique, refuse_without_guidance


@dataclass(frozen=True)
class CfgCurveSettings:
    """The CFG scale over frames and steps."""

    cfg_curve: float | str = setting(
        Varying, 0.0, "CFG curve", "the CFG scale over frames, 0: 8, -1: 3, or over steps, @0: 8, @1: 3; 0 = as set",
        0, 100, 0.5, 30, key="Motion CFG curve", group="guidance",
    )  # fmt: skip


class CfgCurve(Technique):
    """The CFG scales of a curve; its steps are those of the sampler, the first at 0 and the last at 1.

    Source: Kynkäänniemi et al. 2024, "Applying Guidance in a Limited Interval" (arXiv:2404.07724), for scales that
    differ by step; Blattmann et al. 2023, "Stable Video Diffusion" (arXiv:2311.15127), section 4.3, by frame.
    """

    label = "CFG curve"
    paper = "arXiv:2404.07724"

    def __init__(self, settings: CfgCurveSettings) -> None:
        self.curve = read_curve(settings.cfg_curve)
        self.needs_schedule = self.curve.over_steps

    @staticmethod
    def wanted(settings: CfgCurveSettings) -> bool:
        return settings.cfg_curve != 0

    def check(self, plan: Plan) -> None:
        refuse_without_guidance(self, plan)

    def scales(self, moment: Moment, cfg: float) -> Sequence[float]:
        """Frames behind the kept ones have the last one's."""
        values = self.curve.at(moment.kept, min(moment.step / max(moment.steps - 1, 1), 1.0))
        return [values[min(frame, moment.kept - 1)] for frame in range(moment.frames)]
