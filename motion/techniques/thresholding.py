"""Dynamic thresholding: what guidance has driven out of range is drawn back into it (Imagen)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from motion.fields.table import Number, setting
from motion.techniques.technique import LIMIT, Step, Technique

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ThresholdingSettings:
    """From which share of the values on, and into which range."""

    threshold: float = setting(
        Number, 0.0, "Dynamic thresholding",
        "draws colours that a high CFG scale overdoes back; 0.995 is usual, 0 = off", 0, 1, 0.005, 1,
        key="Motion dynamic thresholding", group="guidance",
        detail="the share of a clip's values that stay in range: all are divided by what exceeds it",
    )  # fmt: skip
    threshold_range: float = setting(
        Number, 0.0, "Threshold range", "how far values reach; 0 = as far as without guidance",
        0, 100, 0.1, 10, key="Motion threshold range", group="guidance", needs=("threshold",),
    )  # fmt: skip


def quantile(x: Tensor, share: float) -> Tensor:
    """The quantile of ``x [clips, ...]`` in each clip, ``[clips, 1]``; linear between order statistics.

    As `torch.quantile`, which takes no more than 16 million values, a clip of 250 frames of 1024 px.
    """
    flat = x.flatten(1)
    place = share * (flat.shape[1] - 1)
    low, high = (
        flat.kthvalue(int(index) + 1, dim=1, keepdim=True)[0] for index in (math.floor(place), math.ceil(place))
    )
    return low + (high - low) * (place - math.floor(place))


def threshold(x0: Tensor, share: float, reach: Tensor | float = 1.0) -> Tensor:
    """Each clip of ``x0 [clips, ...]`` clipped to ``[-s, s]`` and divided by ``s / reach``.

    ``s`` is the ``share`` quantile of the clip's absolute values, at least ``reach``; one for each frame would flicker.
    """
    axes = [1] * (x0.ndim - 1)
    spread = quantile(x0.abs(), share)
    spread = spread.maximum(spread.new_ones(1) * reach)
    limit = spread.view(-1, *axes)
    scale = (reach / spread).view(-1, *axes)
    return x0.clamp(-limit, limit) * scale


class DynamicThresholding(Technique):
    """Saturated clips at high CFG scales are drawn back into the range that pictures have.

    The paper's range is that of pixels, [-1, 1]. Latents have none; in its place stands how far the prediction without
    guidance reaches by the same quantile, which is the range of clips at this noise level, or a number that is given.
    Source: Saharia et al. 2022, "Imagen" (arXiv:2205.11487), section 2.3; for clips Ho et al. 2022, "Imagen Video"
    (arXiv:2210.02303), section 2.6.
    """

    label = "Dynamic thresholding"
    paper = "arXiv:2205.11487"
    order = LIMIT

    def __init__(self, settings: ThresholdingSettings) -> None:
        self.share, self.reach = settings.threshold, settings.threshold_range

    @staticmethod
    def wanted(settings: ThresholdingSettings) -> bool:
        return settings.threshold > 0

    def edit(self, step: Step, x0: Tensor) -> Tensor:
        reach = self.reach or quantile(step.clips(step.x0["cond"]).abs(), self.share)
        return threshold(step.clips(x0), self.share, reach).flatten(0, 1)
