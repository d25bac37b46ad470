"""Temporal guidance: the motion extrapolated from what the same network draws without it (Gen-1)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from motion.fields.table import Number, setting
from motion.techniques.technique import Pass, Step, Technique

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TemporalGuidanceSettings:
    """How far."""

    temporal_guidance: float = setting(
        Number, 1.0, "Temporal guidance", "above 1 the frames hold together more, in half as much time again; 1 = off",
        0, 10, 0.05, 3, key="Motion temporal guidance", group="guidance",
        detail="how far to go from frames that are drawn one by one (0) to those that move together (1), and beyond",
    )  # fmt: skip


class TemporalGuidance(Technique):
    """``still + w_t (moving - still) + cfg (cond - moving)``, where ``moving`` is the unguided prediction and ``still``
    the same without temporal layers; without a negative prompt both are the prompt's.

    Source: Esser et al. 2023, "Structure and Content-Guided Video Synthesis with Diffusion Models" (Gen-1,
    arXiv:2302.03011), section 3.4.
    """

    label = "Temporal guidance"
    paper = "arXiv:2302.03011"

    def __init__(self, settings: TemporalGuidanceSettings) -> None:
        self.weight = settings.temporal_guidance

    @staticmethod
    def wanted(settings: TemporalGuidanceSettings) -> bool:
        return settings.temporal_guidance != 1

    def passes(self, texts: Collection[str]) -> Sequence[Pass]:
        return [Pass("uncond" if "uncond" in texts else "cond", motion=False)]

    def edit(self, step: Step, x0: Tensor) -> Tensor:
        (still,) = self.passes(step.x0)
        return x0 + (self.weight - 1) * (step.x0[still.text] - step.predict(still))
