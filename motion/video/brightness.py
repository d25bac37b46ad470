"""How much lighter or darker some frames are than those beside them, and frames that take their neighbours' colours."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean, median
from typing import Any

import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[Any]
"""``[height, width, 3]`` from 0 to 255, of any dtype."""
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


def matched(frames: Iterable[Frame], keys: Collection[int]) -> Iterator[Frame]:
    """The frames, those of ``keys`` (places in ``frames``) with their neighbours' colours; the others as they are.

    Each channel takes the mean and the standard deviation (Reinhard et al. 2001, "Color Transfer between Images") that
    the frames right before and after have on average; those among them that are of ``keys`` do not count, and with none
    left a frame stays. Reads one frame ahead.
    """
    ahead = iter(frames)
    before, here = None, next(ahead, None)
    place = 0
    while here is not None:
        after = next(ahead, None)
        near = {place - 1: before, place + 1: after}
        beside = [frame for at, frame in near.items() if frame is not None and at not in keys]
        yield _with_colours_of(beside, here) if place in keys and beside else here
        before, here, place = here, after, place + 1


def _with_colours_of(beside: list[Frame], frame: Frame) -> Frame:
    """``frame`` with the colours that ``beside`` have on average."""
    exact = frame.astype(np.float64)
    means, spreads = (np.mean([of(one, (0, 1)) for one in (other.astype(np.float64) for other in beside)], 0)
                      for of in (np.mean, np.std))  # fmt: skip
    own = exact.std((0, 1))
    gain = np.divide(spreads, own, out=np.ones(3), where=own > 0)
    result = ((exact - exact.mean((0, 1))) * gain + means).clip(0, 255)
    whole = np.issubdtype(frame.dtype, np.integer)
    return (result.round() if whole else result).astype(frame.dtype)
