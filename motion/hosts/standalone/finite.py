"""Frames that came out as no numbers: who is to blame."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from motion.errors import MotionError


def check_finite(latents: Tensor, dtype: torch.dtype, models: Mapping[str, nn.Module | None]) -> None:
    """Raise MotionError if `latents` hold NaN or infinity, naming what may be done.

    `models` are those that drew them, by their names in a sentence: one whose own weights are no numbers is named.
    """
    if latents.isfinite().all():
        return
    for name, model in models.items():
        if model is not None and not all(weights.float().isfinite().all() for weights in model.parameters()):
            raise MotionError(f"the frames came out as NaN: the {name} holds weights that are no numbers, get it again")
    if dtype == torch.float32:
        raise MotionError(
            "the frames came out as NaN, though the weights are numbers: lower CFG scale and motion scale, and leave "
            "LoRAs and key frames out one by one"
        )
    wider = "fp32 or bf16" if dtype == torch.float16 else "fp32"
    raise MotionError(f"the frames came out as NaN in {str(dtype).removeprefix('torch.')}: draw in {wider} (--dtype)")
