"""Replacement: frames that are given are held while the others are drawn around them (Video Diffusion Models)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from motion.errors import MotionError
from motion.fields.table import Choice, setting
from motion.techniques.technique import HOLD, Input, Plan, Step, Technique

if TYPE_CHECKING:
    from torch import Tensor

HOLDS: Mapping[str, str] = MappingProxyType({"off": "Off", "noised": "Noised", "clean": "Clean"})
CLEAN = 1
"""The time step at which clean frames are seen."""


@dataclass(frozen=True)
class ReplacementSettings:
    """Whether key frames are held."""

    hold_keys: str = setting(
        Choice, "off", "Hold key frames", "shows key frames exactly as they are given", HOLDS,
        key="Motion hold key frames", group="guidance", needs=("key_frames", "source_keys"),
        detail="noised: the other frames see them as noisy as themselves, best beside SparseCtrl; clean: without "
        "noise, better where the key frame scale is 0, which leaves SparseCtrl out",
    )  # fmt: skip


class Replacement(Technique):
    """Given frames are what is predicted for them in each step, so their latents are those of the picture, noised. In
    the finished clip they are the pictures themselves.

    Source: Ho et al. 2022, "Video Diffusion Models" (arXiv:2204.03458), section 3.1.
    """

    label = "Hold key frames"
    paper = "arXiv:2204.03458"
    order = HOLD
    takes_given = True

    def __init__(self, settings: ReplacementSettings) -> None:
        pass

    @staticmethod
    def wanted(settings: ReplacementSettings) -> bool:
        return settings.hold_keys == "noised"

    def check(self, plan: Plan) -> None:
        if not plan.held:
            raise MotionError("key frames are to be held, and there are none: give one, or turn Hold key frames off")

    def edit(self, step: Step, x0: Tensor) -> Tensor:
        clips = step.clips(x0).clone()
        for frame, latents in step.given.items():
            clips[:, frame] = latents.to(x0)
        return clips.flatten(0, 1)

    def finish(self, number: int, frame: Any, given: Any) -> Any:
        return given


class CleanReplacement(Replacement):
    """And the network sees them without noise at a time step of their own, however noisy the others are, as video
    models do that are trained to go on from frames."""

    @staticmethod
    def wanted(settings: ReplacementSettings) -> bool:
        return settings.hold_keys == "clean"

    def see(self, given: Input) -> Input:
        x, t = given.x.clone(), given.t.clone()
        for row, frame in enumerate(given.frames):
            if frame in given.given:
                x[row], t[row] = given.given[frame].to(x), CLEAN
        return given._replace(x=x, t=t)
