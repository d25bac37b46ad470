"""Spatial layers a few frames at a time where the memory that the host has left is short: slower, and the same clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

from motion.hosts.memory import SPARING_ROWS, needed_bytes
from motion.models import sites
from motion.sampling import unet_call
from motion.sampling.arrangement import Arrangement
from motion.sampling.rows import OPTIONS
from motion.settings.tab import Tab

PATCHES = ("patches", "patches_replace", "block_modifiers", "block_inner_modifiers")
"""What the Forge family's extensions put into a call for its layers, which may count on all rows of the batch."""
REPLACED = {"forward", "_forward"}
"""Attributes of a layer by which extensions put something of theirs in its place."""


def attach_slices(
    unet: nn.Module, tab: Tab, arrangement: Arrangement, free: Callable[[], float | None], undo: ExitStack
) -> None:
    """Let the memory that is ``free`` settle how many frames spatial layers take at a time, until ``undo`` is closed.

    It is asked as the first call of each size begins, when all models are in their places. Where nobody knows, and
    where frames look at each other, nothing is installed.
    """
    arrangement.may_slice = tab.cross_frame_mode(tab.zero_shot) == "none" and free() is not None
    if arrangement.may_slice:
        hear = _Slices(unet, arrangement, free).hear
        arrangement.listeners.append(hear)
        undo.callback(arrangement.listeners.remove, hear)


class _Slices:
    def __init__(self, unet: nn.Module, arrangement: Arrangement, free: Callable[[], float | None]) -> None:
        self.arrangement, self.free = arrangement, free
        found = sites.find(unet)
        layers = *found.transformers, *found.resblocks
        self.inside = [part for layer in layers for part in layer.modules() if part is not layer]
        self.itemsize = max(2, next(unet.parameters()).itemsize)  # weights in 8 bits are computed with in 16
        self.kind: Any = None

    def hear(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], batch: int) -> None:
        """A call of the host's begins."""
        x: Tensor = unet_call.latents(args, kwargs)
        if (x.shape, x.dtype) == self.kind:
            return
        self.kind = x.shape, x.dtype
        self.arrangement.rows_at_once = None
        if self._by_row(kwargs):
            return
        windows, free = self.arrangement.windows, self.free()
        together = windows.size if windows.cut and not self.arrangement.whole else windows.frames
        rows, (height, width) = batch // windows.frames * together, x.shape[-2:]
        if free is not None and needed_bytes(rows, height, width, self.itemsize) > free:
            self.arrangement.rows_at_once = SPARING_ROWS

    def _by_row(self, kwargs: Mapping[str, Any]) -> bool:
        """Whether layers may be told something by the row, so that each call of them wants the whole batch."""
        told = any(kwargs.get(OPTIONS, {}).get(name) for name in PATCHES)
        return told or self.arrangement.by_row or any(REPLACED & vars(part).keys() for part in self.inside)
