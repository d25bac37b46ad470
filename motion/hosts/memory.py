"""Memory that is used up: told from other errors, and foreseen where a device says how much it has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from motion.errors import MotionError

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
    free = _free_bytes(device)
    needed = sum(tensor.numel() * dtype.itemsize for model, dtype in models.items() for tensor in model.parameters())
    if free is not None and needed > free:
        gibs = f"{needed / 2**30:.1f} GiB, and {device} has {free / 2**30:.1f} GiB left"
        raise MotionError(f"the image model takes {gibs}: {MODEL_REMEDY}")


def _free_bytes(device: torch.device) -> int | None:
    """The bytes that may still be taken; None where there is nobody to ask."""
    try:
        if device.type == "cuda":
            return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
        if device.type == "mps":
            return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    except (AssertionError, AttributeError, RuntimeError):  # a driver that does not say
        pass
    return None
