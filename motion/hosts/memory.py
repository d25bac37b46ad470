"""Memory that is used up: told from other errors, and foreseen where a device says how much it has; and models of ours
that stay on a GPU between jobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from motion.errors import MotionError

LEFT_FREE = 0.25
"""The share of a GPU's memory that models which stay there leave to others."""
FRAME_BYTES = 70e6
"""What a call of SD1.5's UNet with a motion module takes beside weights for each frame of 512 px in half precision
(`tests/bench/bench_memory.py`)."""
SPARING_ROWS = 4
"""Frames that a spatial layer takes at a time where memory is short."""
_WORDS = ("out of memory", "can't allocate memory", "not enough memory")
"""What CUDA, ROCm and MPS say of a device, and torch of the machine, by platform."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that there is no more memory, of a device or of the machine."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _WORDS)
    )


MODEL_REMEDY = "close what else uses it, take half precision, or draw on the CPU"


@contextmanager
def memory_error_told(what: str, remedy: str = "make either smaller") -> Iterator[None]:
    """Within, memory that is used up is a MotionError: `what` (with its verb) not fit into memory, and the remedy."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MotionError) or not is_out_of_memory(error):
            raise
        raise MotionError(f"{what} not fit into memory: {remedy}") from error


def check_fits(models: Mapping[nn.Module, torch.dtype], device: torch.device) -> None:
    """Raise MotionError if the models, each in its dtype, are larger than the memory that `device` has left.

    Only a GPU is asked.
    """
    free = free_bytes(device)
    needed = sum(tensor.numel() * dtype.itemsize for model, dtype in models.items() for tensor in model.parameters())
    if free is not None and needed > free:
        gibs = f"{needed / 2**30:.1f} GiB, and {device} has {free / 2**30:.1f} GiB left"
        raise MotionError(f"the image model takes {gibs}: {MODEL_REMEDY}")


@contextmanager
def staying_on(device: torch.device, models: Sequence[nn.Module]) -> Iterator[None]:
    """Within, and from job to job as long as there is room, `models` are on `device`; elsewhere on the CPU.

    There is room where `LEFT_FREE` of the GPU's memory stays free beside them; it is asked before and behind.
    """
    for model in models:
        size = sum(weights.nbytes for weights in model.parameters() if weights.device.type != device.type)
        if _has_room(device, size):
            _move(model, device)
    try:
        yield
    finally:
        if not _has_room(device, 0):
            for model in models:
                _move(model, torch.device("cpu"))


def _move(model: nn.Module, device: torch.device) -> None:
    with torch.inference_mode(False):  # it outlives the host's inference mode
        model.to(device, non_blocking=device.type == "cuda")


def _has_room(device: torch.device, size: int) -> bool:
    """Whether so many bytes go there, and enough is left."""
    free = free_bytes(device) if device.type == "cuda" else None
    return free is not None and free - size >= LEFT_FREE * torch.cuda.mem_get_info(device)[1]


def needed_bytes(rows: int, height: int, width: int, itemsize: int) -> float:
    """About what a call of the UNet takes beside weights for so many rows of latents of that size, in numbers of
    ``itemsize`` bytes."""
    return FRAME_BYTES * rows * (height * width / 64**2) * (itemsize / 2)


def free_bytes(device: torch.device) -> int | None:
    """The bytes that may still be taken; None where there is nobody to ask."""
    try:
        if device.type == "cuda":
            kept_for_us = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            return torch.cuda.mem_get_info(device)[0] + kept_for_us
        if device.type == "mps":
            return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    except (AssertionError, AttributeError, RuntimeError):  # a driver that does not say
        pass
    return None
