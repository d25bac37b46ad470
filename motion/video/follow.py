"""Boxes of one size that follow what masks show through a clip, so that what is in them can be drawn as a clip."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.uint8]
"""``[height, width]``, above 0 where something is."""
STEADINESS = 1.5
"""Frames, the standard deviation of the Gaussian that smooths a path: detectors jitter from frame to frame."""


class Box(NamedTuple):
    """Pixels of a frame, from the corner ``(left, top)`` on."""

    left: int
    top: int
    width: int
    height: int

    def of(self, frame: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What is in the box, a view of ``frame [height, width, ...]``."""
        return frame[self.top : self.top + self.height, self.left : self.left + self.width]


def follow(masks: Iterable[Mask], padding: int, shape: float) -> list[Box]:
    """A box for each frame around what its mask shows, with ``padding`` pixels on each side.

    All are of one size, ``shape`` being their width by their height as far as the frame allows, and lie in the frame.
    In frames that show nothing the box is on its way from where it was seen to where it is seen next. The path is
    smoothed, but no box leaves out what its mask shows. An empty list if no mask shows anything.
    """
    found = [_extent(mask) for mask in masks]
    seen = [time for time, (_, extent) in enumerate(found) if extent is not None]
    if not seen:
        return []
    within = np.array(found[0][0])  # width, height of a frame
    corners = np.array([found[time][1] for time in seen], np.float64).reshape(-1, 2, 2)  # [seen, first and last, x y]
    size = _size((corners[:, 1] - corners[:, 0]).max(0), padding, shape, within)
    times = np.arange(len(found))
    path = np.stack([np.interp(times, seen, axis) for axis in corners.mean(1).T], axis=1)
    places = _smooth(path) - size / 2
    low, high = corners[:, 1] - size, corners[:, 0]  # where a box holds all that is seen
    places[seen] = places[seen].clip(np.ceil(low), np.floor(high))
    places = places.round().clip(0, within - size).astype(int)
    return [Box(*map(int, place), *map(int, size)) for place in places]


def _extent(mask: Mask) -> tuple[tuple[int, int], tuple[int, ...] | None]:
    """Width and height of a mask, and of what it shows the first and the last column and row: x, y, x, y."""
    size = (mask.shape[1], mask.shape[0])
    left, top, width, height = cv2.boundingRect(cv2.findNonZero(mask)) if mask.any() else (0, 0, 0, 0)
    return size, (left, top, left + width, top + height) if width else None


def _size(largest: Any, padding: int, shape: float, within: Any) -> Any:
    """Width and height of a box around what is ``largest [x y]`` in a clip, in whole pixels."""
    width, height = largest + 2 * padding
    width, height = max(width, height * shape), max(height, width / shape)
    return np.minimum(np.ceil([width, height]), within)


def _smooth(path: Any) -> Any:
    """``path [frames, 2]`` without its jitter; its ends count as if they went on."""
    reach = int(np.ceil(3 * STEADINESS))
    weights = cv2.getGaussianKernel(2 * reach + 1, STEADINESS).ravel()
    long = np.pad(path, ((reach, reach), (0, 0)), "edge")
    return np.stack([np.convolve(axis, weights, "valid") for axis in long.T], axis=1)
