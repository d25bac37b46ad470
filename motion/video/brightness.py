"""How much lighter or darker some frames are than those beside them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean, median

import numpy as np

from motion.video.colours import Frame

LUMA = (0.299, 0.587, 0.114)
"""Rec. 601, as in JPEG and in Pillow's mode "L"."""


@dataclass(frozen=True)
class Jumps:
    """In brightness, of 255."""

    by_frame: Mapping[int, float]
    """How much lighter a key frame is than the frames beside it."""
    usual: float
    """The median difference of neighbours of which none is a key frame; 0 if there are none."""

    def __str__(self) -> str:
        jumps = " ".join(f"{frame}={jump:+.1f}" for frame, jump in self.by_frame.items())
        return f"{jumps} (usual {self.usual:.1f})"


def brightness(frame: Frame) -> float:
    """The mean luma of a frame, from 0 to 255."""
    return float(frame.mean((0, 1), dtype=np.float64) @ LUMA)


def jumps(levels: Mapping[int, float], keys: Collection[int]) -> Jumps:
    """The jumps at ``keys``, from the `brightness` of frames by their number.

    A key frame is compared with the frames right before and after it that are none; one without is left out.
    """
    beside = {key: [levels[near] for near in (key - 1, key + 1) if near in levels and near not in keys] for key in keys}
    pairs = [pair for pair in pairwise(sorted(levels)) if not set(pair) & set(keys)]
    differences = [abs(levels[one] - levels[other]) for one, other in pairs]
    found = {key: levels[key] - mean(beside[key]) for key in sorted(keys) if key in levels and beside[key]}
    return Jumps(found, median(differences) if differences else 0.0)
