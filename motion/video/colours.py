"""The colours of a frame in six numbers, and frames that take those of others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[Any]
"""``[height, width, 3]`` from 0 to 255, of any dtype."""
LOOKED_AT = 16
"""Frames by which a clip's colours are told: few enough that decoding them once more costs little."""
MOST_GAIN = 2.0
"""How far a channel's contrast is raised at most: what little there is in an almost plain frame is noise."""


class Colours(NamedTuple):
    """Mean and standard deviation of each channel, ``[3]``, from 0 to 255."""

    mean: npt.NDArray[np.float64]
    spread: npt.NDArray[np.float64]


def colours(frame: Frame) -> Colours:
    """The colours of one frame."""
    exact = frame.astype(np.float64)
    return Colours(exact.mean((0, 1)), exact.std((0, 1)))


def usual(frames: Iterable[Frame]) -> Colours:
    """What at least one frame has: the median of each number."""
    return Colours(*(np.median(numbers, 0) for numbers in zip(*map(colours, frames), strict=True)))


def spread_evenly(places: Sequence[int]) -> list[int]:
    """At most `LOOKED_AT` of the places, as evenly apart as may be, neither end nearer than the other."""
    count = min(LOOKED_AT, len(places))
    return [places[(2 * index + 1) * len(places) // (2 * count)] for index in range(count)]


def steady_colours(frames: Iterable[Frame], of_all: Colours, weight: float) -> Iterator[Frame]:
    """The frames, each with its colours drawn to ``of_all``: at 1 they become the same in every frame."""
    for frame in frames:
        yield _drawn_to(of_all, frame, weight)


def match_colours(frames: Iterable[Frame], keys: Collection[int]) -> Iterator[Frame]:
    """The frames, those of ``keys`` (places in ``frames``) with their neighbours' colours; the others as they are.

    A key frame takes what the frames right before and after have on average; those among them that are of ``keys`` do
    not count, and with none left it stays. Reads one frame ahead.
    """
    ahead = iter(frames)
    before, here = None, next(ahead, None)
    place = 0
    while here is not None:
        after = next(ahead, None)
        near = {place - 1: before, place + 1: after}
        beside = [colours(frame) for at, frame in near.items() if frame is not None and at not in keys]
        if place in keys and beside:
            yield _drawn_to(Colours(*(np.mean(numbers, 0) for numbers in zip(*beside, strict=True))), here)
        else:
            yield here
        before, here, place = here, after, place + 1


def _drawn_to(other: Colours, frame: Frame, weight: float = 1.0) -> Frame:
    """``frame`` with its mean and spread as far as ``weight`` on the way to ``other``'s (Reinhard et al. 2001, "Color
    Transfer between Images", in RGB)."""
    own = colours(frame)
    gain = np.divide(other.spread, own.spread, out=np.ones(3), where=own.spread > 0).clip(max=MOST_GAIN)
    mean, gain = own.mean + weight * (other.mean - own.mean), 1 + weight * (gain - 1)
    result = ((frame - own.mean) * gain + mean).clip(0, 255)
    whole = np.issubdtype(frame.dtype, np.integer)
    return (result.round() if whole else result).astype(frame.dtype)
