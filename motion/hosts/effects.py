"""How strongly motion modules act, by the settings of a clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from motion.sampling.effect import MotionEffect
from motion.settings.layers import FurtherModule
from motion.settings.settings import Movement
from motion.video.masks import read_masks

MASK = "movement mask"
"""What errors call it."""


def effect_of(settings: Movement) -> MotionEffect:
    """The effect of the clip's own module. Raises MotionError for a mask that is none or of another length."""
    mask = _mask(settings.effect_mask, settings.frames)
    blocks: dict[str, Any] = dict(settings.block_effects)
    return MotionEffect(settings.scale, settings.attention_scale, blocks, mask, settings.frames)


def effect_of_further(module: FurtherModule, frames: int) -> MotionEffect:
    """The effect of one beside it. Raises MotionError as `effect_of` does."""
    mask = _mask(module.mask, frames)
    return MotionEffect(module.effect, mask=mask, frames=frames, start=module.start, end=module.end)


def _mask(path: str, frames: int) -> Tensor | None:
    return torch.from_numpy(read_masks(Path(path), MASK, frames)) if path.strip() else None
