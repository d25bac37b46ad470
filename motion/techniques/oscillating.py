"""Oscillating guidance: strong at first, then by turns weak and strong (Imagen Video)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from motion.fields.table import Number, setting
from motion.techniques.technique import Moment, Plan, Technique, refuse_without_guidance


@dataclass(frozen=True)
class OscillatingSettings:
    """How weak, and from when on."""

    cfg_low: float = setting(
        Number, 0.0, "Oscillating CFG", "the CFG scale of every other step, for strong ones; 0 = off",
        0, 100, 0.5, 30, key="Motion oscillating CFG", group="guidance", detail="Imagen Video: 2 where the scale is 16",
    )  # fmt: skip
    cfg_low_start: float = setting(
        Number, 0.1, "Oscillation start", "when the first weaker step comes: 0 = first step, 1 = never",
        0, 1, 0.05, 1, key="Motion oscillation start", group="guidance", needs=("cfg_low",),
    )  # fmt: skip


def oscillating_scales(steps: int, high: float, low: float, start: int) -> list[float]:
    """The CFG scale of each step: ``high`` in the first ``start``, then ``low`` and ``high`` by turns."""
    return [low if step >= start and (step - start) % 2 == 0 else high for step in range(steps)]


class OscillatingGuidance(Technique):
    """A high and a low CFG scale by turns: saturation recovers in the steps with the low one.

    The paper writes ``(1 + w) cond - w uncond``, so its weights 15 and 1 are CFG scales of 16 and 2 here.
    Source: Ho et al. 2022, "Imagen Video" (arXiv:2210.02303), section 2.6.2.
    """

    label = "Oscillating guidance"
    paper = "arXiv:2210.02303"
    needs_schedule = True

    def __init__(self, settings: OscillatingSettings) -> None:
        self.low, self.start = settings.cfg_low, settings.cfg_low_start

    @staticmethod
    def wanted(settings: OscillatingSettings) -> bool:
        return settings.cfg_low > 0

    def check(self, plan: Plan) -> None:
        refuse_without_guidance(self, plan)

    def scales(self, moment: Moment, cfg: float) -> Sequence[float]:
        of_steps = oscillating_scales(moment.steps, cfg, self.low, round(self.start * moment.steps))
        return [of_steps[min(moment.step, moment.steps - 1)]] * moment.frames
