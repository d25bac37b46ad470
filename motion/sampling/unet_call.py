"""One call of a UNet: what it is called with, wherever its host puts that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from motion import patching
from motion.errors import MotionError
from motion.sampling.arrangement import Arrangement

LATENTS, TIME = ("x", "sample"), ("timesteps", "timestep")
"""The names of a UNet's first two arguments: ldm's and its heirs', diffusers'."""


class UNetCall(NamedTuple):
    """The inputs of ldm's, sgm's, Forge's, ldm_patched's and diffusers' UNets that the extension reads."""

    x: Tensor
    """Noisy latents, ``[(groups frames), channels, height, width]``."""
    t: Tensor
    """The time step: one number, or one for each row."""
    context: Tensor
    """Embedded text, ``[(groups frames), tokens, channels]``."""


def inputs(args: Sequence[Any], kwargs: Mapping[str, Any]) -> UNetCall:
    """The inputs among a UNet's arguments."""
    return UNetCall(
        latents(args, kwargs),
        torch.as_tensor(time(args, kwargs)),  # diffusers takes a number, too
        _given(args, kwargs, 2, "context", "encoder_hidden_states"),
    )


def latents(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What a UNet is to denoise; None if it is called with something else."""
    return _given(args, kwargs, 0, *LATENTS)


def time(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The time step that a UNet is called with; None if it is called without."""
    return _given(args, kwargs, 1, *TIME)


def replaced(
    args: Sequence[Any], kwargs: Mapping[str, Any], x: Tensor, t: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call with other latents and time steps."""
    changed = []
    others = dict(kwargs)
    for place, value, names in ((0, x, LATENTS), (1, t, TIME)):
        if len(args) > place:
            changed.append(value)
        else:
            others[next(name for name in names if name in kwargs)] = value
    return (*changed, *args[2:]), others


def batch(args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    """Rows of what a UNet is called with; 0 if it is called with something else."""
    x = latents(args, kwargs)
    return len(x) if isinstance(x, Tensor) else 0


def check_clips(rows: int, frames: int) -> None:
    """Raise MotionError unless a batch of ``rows`` is made of whole clips of ``frames``."""
    if rows % frames:
        raise MotionError(
            f"a batch of {rows} is no multiple of {frames} frames: all frames of a clip go side by side, and a sampler "
            "that takes images one by one cannot make clips"
        )


def _given(args: Sequence[Any], kwargs: Mapping[str, Any], place: int, *names: str) -> Any:
    return args[place] if len(args) > place else next((kwargs[name] for name in names if name in kwargs), None)


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
        x = latents(args, kwargs)
        t = torch.as_tensor(time(args, kwargs), device=x.device).expand(len(x))
        args, kwargs = replaced(args, kwargs, *see(x, t, arrangement.frame_numbers(len(x))))
        return forward(*args, **kwargs)

    return patching.item(vars(unet), "forward", seeing)
