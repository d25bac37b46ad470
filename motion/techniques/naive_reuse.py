"""NaiveReuse: early in sampling, later windows take over what the first one predicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from motion.fields.table import Number, setting
from motion.techniques.technique import Step, Technique

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class NaiveReuseSettings:
    """How much of it and how long."""

    naive_reuse: float = setting(
        Number, 0.0, "Naive reuse", "how much of the first window's prediction all others take over; 0 = off",
        0, 1, 0.05, 1, key="Motion naive reuse", group="windows",
        detail="keeps looks steady in clips of several windows, but makes their motion alike; 0.95 is usual",
    )  # fmt: skip
    naive_reuse_end: float = setting(
        Number, 0.1, "Naive reuse end", "when that ceases: 0 = first step, 1 = last", 0, 1, 0.01, 1,
        key="Motion naive reuse end", group="windows", needs=("naive_reuse",),
    )  # fmt: skip


class NaiveReuse(Technique):
    """Each frame's prediction is mixed with that of the frame at its place in the first window, one window's length
    after the other.

    What is taken over is the first window's as averaged with those that overlap it. Source: NaiveReuse of
    ComfyUI-AnimateDiff-Evolved, which takes it before it is averaged.
    """

    label = "Naive reuse"
    paper = "github.com/Kosinkadink/ComfyUI-AnimateDiff-Evolved"
    needs_schedule = True

    def __init__(self, settings: NaiveReuseSettings) -> None:
        self.share = settings.naive_reuse
        self.end = settings.naive_reuse_end

    @staticmethod
    def wanted(settings: NaiveReuseSettings) -> bool:
        return settings.naive_reuse > 0 and settings.naive_reuse_end > 0

    def edit(self, step: Step, x0: Tensor) -> Tensor:
        moment = step.moment
        if moment.step >= self.end * moment.steps or not moment.window:
            return x0
        clips = step.clips(x0)
        first = clips[:, [frame % moment.window for frame in range(moment.frames)]]
        return clips.lerp(first, self.share).flatten(0, 1)
