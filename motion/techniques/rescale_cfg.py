"""RescaleCFG: guided predictions with the spread of those that are not guided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from motion.fields.table import Number, setting
from motion.techniques.technique import LIMIT, Plan, Step, Technique, from_velocity, refuse_without_guidance, velocity

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class RescaleCfgSettings:
    """How much of it."""

    rescale_cfg: float = setting(
        Number, 0.0, "Rescale CFG", "takes back contrast that a high CFG scale adds; 0.7 is usual, 0 = off",
        0, 1, 0.05, 1, key="Motion rescale CFG", group="guidance",
    )  # fmt: skip


def rescale(guided: Tensor, cond: Tensor, share: float) -> Tensor:
    """``guided`` with as much spread as ``cond``, by ``share`` of the way; both ``[clips, ...]``, each clip by itself.

    Source: equations 15 and 16 of the paper, whose standard deviation is a picture's. Here it is the clip's: one for
    each frame would flicker.
    """
    axes = list(range(1, guided.ndim))
    factor = cond.std(axes, keepdim=True) / guided.std(axes, keepdim=True)
    return guided * (share * factor + (1 - share))


class RescaleCfg(Technique):
    """CFG without the contrast that it adds.

    The standard deviations are those of v, the velocity between noise and clip, as in the paper, whatever the model
    predicts. Source: Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed"
    (arXiv:2305.08891), section 3.4.
    """

    label = "Rescale CFG"
    paper = "arXiv:2305.08891"
    order = LIMIT

    def __init__(self, settings: RescaleCfgSettings) -> None:
        self.share = settings.rescale_cfg

    @staticmethod
    def wanted(settings: RescaleCfgSettings) -> bool:
        return settings.rescale_cfg > 0

    def check(self, plan: Plan) -> None:
        refuse_without_guidance(self, plan)

    def edit(self, step: Step, x0: Tensor) -> Tensor:
        guided, cond = (step.clips(velocity(step.x, step.sigma, found)) for found in (x0, step.x0["cond"]))
        return from_velocity(step.x, step.sigma, rescale(guided, cond, self.share).flatten(0, 1))
