"""Where the frames of a clip lie in a batch, and in which order the temporal layers see them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

from torch import Tensor
from torch.utils._pytree import tree_map

T = TypeVar("T")
GOLDEN = 0.6180339887498949
"""Fraction of a loop between the seams of two passes: the multiples of it spread evenly, however many there are."""


@dataclass
class Arrangement:
    """How a host lays out its batches of ``frames``.

    ``prompts``: prompts per frame, which may change between passes. A host that composes several (AND) puts those of
    one frame side by side, in front of the rest: ``[(frames prompts) + (groups frames)]``; with 1 every group of the
    batch is a whole clip already.
    ``closed``: the clip is a loop. Each pass begins it at another frame, so no two frames are always its ends.
    """

    frames: int
    prompts: int = 1
    closed: bool = False
    shift: int = field(default=0, init=False)
    """The frame that the pass in progress begins with."""
    _passes: count[int] = field(default_factory=count, compare=False, repr=False)

    def next_order(self, batch: int) -> list[int]:
        """The rows of the next batch so that clips lie one after the other, each frame by frame."""
        mixed = self.frames * self.prompts
        rows = [row for prompt in range(self.prompts) for row in range(prompt, mixed, self.prompts)]
        rows += range(mixed, batch)
        self.shift = int(next(self._passes) * GOLDEN * self.frames) % self.frames if self.closed else 0
        clips = [rows[start : start + self.frames] for start in range(0, batch, self.frames)]
        return [row for clip in clips for row in (*clip[self.shift :], *clip[: self.shift])]

    def frame_numbers(self, batch: int) -> list[int]:
        """The frame in each row of the pass in progress, once its rows are in order."""
        return [(row + self.shift) % self.frames for row in range(batch)]


def reordered(tree: T, order: list[int]) -> T:
    """``tree`` with the rows of every tensor that has as many of them as ``order`` in that order."""

    def take(leaf: object) -> object:
        return leaf[order] if isinstance(leaf, Tensor) and leaf.ndim and len(leaf) == len(order) else leaf

    result: T = tree_map(take, tree)
    return result


def restored(tree: T, order: list[int]) -> T:
    """``reordered`` backwards."""
    return reordered(tree, sorted(range(len(order)), key=order.__getitem__))
