"""Where in the picture the parts of a prompt count that AND joins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from motion.video.masks import read_masks

MASK = "region mask"
"""What errors call one."""


@dataclass(frozen=True)
class Regions:
    """The mask of each part, ``[1 or frames, h, w]`` from 0 to 1, white where the part counts; None: everywhere. What
    is drawn behind the frames of the clip has the last one's."""

    masks: Sequence[Tensor | None]
    _kept: dict[Any, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def read(cls, paths: Sequence[Path | None], frames: int) -> Regions:
        """Of files or folders, for a clip of ``frames``. Raises MotionError for what is none or of another length."""
        return cls([None if path is None else torch.from_numpy(read_masks(path, MASK, frames)) for path in paths])

    def weights(self, part: int, x: Tensor) -> Tensor | None:
        """How much a part counts in each place of ``x [frames, c, h, w]``, ``[frames, 1, h, w]``; None: everywhere
        alike."""
        mask = self.masks[part] if part < len(self.masks) else None
        if mask is None:
            return None
        key = part, len(x), x.shape[-2:], x.device, x.dtype
        if key not in self._kept:
            of_frames = mask[torch.arange(len(x)).clamp(max=len(mask) - 1)][:, None]
            self._kept[key] = F.adaptive_avg_pool2d(of_frames, (x.shape[-2], x.shape[-1])).to(x)
        return self._kept[key]
