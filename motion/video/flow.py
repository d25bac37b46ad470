"""Optical flow between frames, and the frame in the middle of two."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from motion.video.pictures import Frame

Flow = npt.NDArray[np.float32]
"""How far each pixel of a frame goes, ``[height, width, 2]``: x, y in pixels of the frame it goes to."""
LEAST = 16
"""Pixels of the shorter side that the search needs; smaller frames are enlarged for it."""


def flow_between(first: Frame, second: Frame) -> Flow:
    """Where each pixel of ``first`` is in ``second``, uint8 ``[height, width, 3]``.

    Dense inverse search (Kroeger et al. 2016, arXiv:1603.03590) on brightness, as OpenCV has it.
    """
    height, width = first.shape[:2]
    zoom = max(1.0, LEAST / min(height, width))
    size = (round(width * zoom), round(height * zoom))
    grey = [cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), size) for frame in (first, second)]
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found = cv2.resize(search.calc(grey[0], grey[1], np.zeros((size[1], size[0], 2), np.float32)), (width, height))
    return np.asarray(found * [width / size[0], height / size[1]], np.float32)


def middle_frame(first: Frame, second: Frame) -> Frame:
    """The frame halfway between two: the mean of both, each moved half of its way to the other."""
    halves = [_moved(*pair, 0.5) for pair in ((first, second), (second, first))]
    return np.asarray(np.round((halves[0] + halves[1]) / 2), np.uint8)


def _moved(frame: Frame, other: Frame, part: float) -> npt.NDArray[np.float32]:
    """``frame`` moved so far on the way to ``other``, with what is at its edges beyond them.

    A pixel is looked for where the flow at its own place says that it came from, which is right where the flow is even.
    """
    height, width = frame.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    flow = part * flow_between(frame, other)
    found = cv2.remap(
        frame.astype(np.float32), x - flow[..., 0], y - flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(found, np.float32)
