"""What the UNet sees instead of what it is called with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from motion import patching
from motion.sampling import unet_call
from motion.sampling.arrangement import Arrangement


def attach_inputs(
    unet: nn.Module,
    arrangement: Arrangement,
    see: Callable[[Tensor, Tensor, Sequence[int]], tuple[Tensor, Tensor]],
) -> patching.Undo:
    """Let each call of ``unet`` see what ``see`` makes of its latents ``[rows, c, h, w]``, time steps ``[rows]`` and
    the frames of its rows, a window at a time.

    It stands behind all hooks, so that whatever asks when a step is (windows, SparseCtrl) is told the host's time.
    """
    forward = unet.forward

    def seeing(*args: Any, **kwargs: Any) -> Any:
        x = unet_call.latents(args, kwargs)
        t = torch.as_tensor(unet_call.time(args, kwargs), device=x.device).expand(len(x))
        args, kwargs = unet_call.replaced(args, kwargs, *see(x, t, arrangement.frame_numbers(len(x))))
        return forward(*args, **kwargs)

    return patching.item(vars(unet), "forward", seeing)
