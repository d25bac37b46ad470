"""ControlVideo's interleaved-frame smoother: in two steps, frames are drawn anew between their neighbours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from motion.errors import MotionError
from motion.fields.table import Number, setting
from motion.techniques.technique import HOLD, Plan, Step, Technique

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
KEEPING_NOISE = ("DDIM", "Euler")
"""The samplers whose step is a straight way from latents to prediction, so that the noise in between can be kept."""
STEPS = 2
"""Steps that follow each other: one for the odd frames, one for the even ones."""


@dataclass(frozen=True)
class SmoothingSettings:
    """When it begins."""

    smoothing: float = setting(
        Number, 0.0, "Interleaved smoothing", "takes flicker out in two steps, after this part of them; 0 = off",
        0, 1, 0.05, 1, key="Motion interleaved smoothing", group="guidance",
        detail="frames are drawn anew between their neighbours (ControlVideo); 0.6 is usual; by DDIM or Euler",
    )  # fmt: skip


def interleave(frames: Sequence[T], step: int, between: Callable[[T, T], T]) -> list[T]:
    """The frames with each second one replaced by what is ``between`` its neighbours.

    In even steps the odd ones, where they have two neighbours. In odd steps the even ones; the first is then between
    itself and the second, and so is the last with its neighbour if it is even.
    """
    drawn, last = list(frames), len(frames) - 1
    for frame in range(1 - step % 2, len(frames), 2):
        if step % 2 == 0 and frame == last:
            continue
        drawn[frame] = between(frames[max(frame - 1, 0)], frames[min(frame + 1, last)])
    return drawn


def keep_noise(smoothed: Tensor, x0: Tensor, sigma: Tensor, sigma_next: float) -> Tensor:
    """What a sampler is to be told so that its step ends at ``smoothed`` with the noise that was predicted with ``x0``.

    DDIM and Euler go from ``x`` the way ``1 - sigma_next / sigma`` to what they are told.
    """
    ratio = sigma_next / sigma
    return (smoothed - ratio * x0) / (1 - ratio)


class InterleavedSmoothing(Technique):
    """Flicker between neighbours is taken out of the predicted pictures, once for odd and once for even frames.

    All frames are decoded and encoded again, as in the authors' code. Source: Zhang et al. 2023, "ControlVideo"
    (arXiv:2305.13077), section 3.3; the authors' frames in between are RIFE's, these are found by optical flow.
    """

    label = "Interleaved smoothing"
    paper = "arXiv:2305.13077"
    order = HOLD
    needs_schedule = True

    def __init__(self, settings: SmoothingSettings) -> None:
        self.start = settings.smoothing

    @staticmethod
    def wanted(settings: SmoothingSettings) -> bool:
        return settings.smoothing > 0

    def check(self, plan: Plan) -> None:
        if plan.sampler not in KEEPING_NOISE:
            raise MotionError(
                f"the sampler is {plan.sampler}: for interleaved smoothing choose {' or '.join(KEEPING_NOISE)}"
            )
        if plan.frames < 3:
            raise MotionError(f"frames is {plan.frames}: interleaved smoothing needs at least 3")

    def edit(self, step: Step, x0: Tensor) -> Tensor:
        first = round(self.start * step.moment.steps)
        if step.pictures is None or not first <= step.moment.step < first + STEPS:
            return x0
        smoothed = step.clips(step.pictures.decode(x0)).clone()
        for clip in smoothed:
            for frame, picture in enumerate(interleave(list(clip), step.moment.step, _between)):
                clip[frame] = picture
        return keep_noise(step.pictures.encode(smoothed.flatten(0, 1)), x0, step.sigma, step.moment.sigma_next)


def _between(first: Tensor, second: Tensor) -> Tensor:
    """The picture between two, ``[3, height, width]`` from 0 to 1."""
    from motion.video.flow import middle_frame  # settings are read before OpenCV is

    frames = [(255 * picture).round().byte().permute(1, 2, 0).cpu().numpy() for picture in (first, second)]
    return first.new_tensor(middle_frame(*frames).transpose(2, 0, 1).tolist()) / 255
