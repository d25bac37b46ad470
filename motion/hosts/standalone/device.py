"""Where and in which precision the networks compute, by name."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from motion.errors import MotionError

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
STORED_IN = {"fp8": torch.float8_e4m3fn}
"""What the UNet's matrices may be stored in, by name: they are computed in half precision."""


def device_of(name: str = "auto") -> torch.device:
    """The device by name; `auto` is the best there is. Raises MotionError if it is unknown or not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, found in there.items() if found))
    kind, _, index = name.partition(":")
    if not there.get(kind) or (index and not (kind == "cuda" and index.isdecimal())):
        raise MotionError(
            f"device is {name}: choose one of auto, {', '.join(k for k, found in there.items() if found)}"
        )
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        raise MotionError(f"device is {name}: this machine has {torch.cuda.device_count()} CUDA devices, from cuda:0")
    return torch.device(name)


def dtype_of(name: str, device: torch.device) -> torch.dtype:
    """The dtype to compute in, by name; `auto` is fp16 on CUDA, else fp32. Raises MotionError if it is unknown."""
    if name in STORED_IN:
        return torch.float16 if device.type == "cuda" else torch.bfloat16
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise MotionError(f"dtype is {name}: choose one of auto, {', '.join([*DTYPES, *STORED_IN])}")
    return DTYPES[name]


def fetched(predicted: Sequence[Tensor]) -> Sequence[Tensor]:
    """Tensors of one shape in float32 on the CPU; a device sends them in one piece."""
    if predicted[0].device.type == "cpu" or len(predicted) == 1:
        return [part.to("cpu", torch.float32) for part in predicted]
    return torch.cat([*predicted]).to("cpu", torch.float32).chunk(len(predicted))
