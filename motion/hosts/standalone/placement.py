"""Where the parts of an image model are: on the device or, where memory is short, on the CPU until they are at work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import nn

from motion.hosts.memory import check_fits, free_bytes
from motion.hosts.standalone.device import STORED_IN
from motion.hosts.standalone.parts import Parts

ROOM = 3 * 2**30
"""Free bytes of a GPU beside the image model below which it is used sparingly: about what a motion module and a clip of
16 frames of 512 px take."""
_resting: WeakKeyDictionary[nn.Module, torch.device] = WeakKeyDictionary()
"""Models that are on the CPU, and the device on which they work."""


def settle(parts: Parts, device: torch.device, dtype: torch.dtype, stored: str) -> bool:
    """Bring the parts to ``device`` to compute in ``dtype``, the UNet in what ``stored`` names; whether little is left.

    Raises MotionError for a GPU on which they have no room.
    """
    upcast = dtype == torch.float16 and parts.vae.config.force_upcast
    precisions = {parts.unet: STORED_IN.get(stored, dtype), parts.vae: torch.float32 if upcast else dtype}
    precisions |= {encoder.model: dtype for encoder in parts.encoders}
    check_fits(precisions, device)
    if stored in STORED_IN:
        nn.Module.to(parts.unet, dtype=dtype)
        parts.unet.enable_layerwise_casting(STORED_IN[stored], dtype)
        precisions.pop(parts.unet)
        nn.Module.to(parts.unet, device)
    for model, its_precision in precisions.items():
        nn.Module.to(model, device, its_precision)  # diffusers' own `to` logs a warning at every cast
    left = free_bytes(device)
    return left is not None and left < ROOM


@contextmanager
def resting(parts: Parts, sparing: bool) -> Iterator[None]:
    """Within, all but the UNet is on the CPU if memory is used sparingly; see `at_work`."""
    models = [parts.vae, *(encoder.model for encoder in parts.encoders)] if sparing else []
    for model in models:
        _resting[model] = next(model.parameters()).device
        nn.Module.to(model, "cpu")
    try:
        yield
    finally:
        for model in models:
            nn.Module.to(model, _resting.pop(model))


@contextmanager
def at_work(model: nn.Module) -> Iterator[None]:
    """Within, a model that rests is where it works."""
    place = _resting.get(model)
    if place is not None:
        nn.Module.to(model, place)
    try:
        yield
    finally:
        if place is not None:
            nn.Module.to(model, "cpu")
