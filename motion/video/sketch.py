"""Edge sketches of frames: what a scribble encoder is shown in training, and what a sketch of one's own should be like.

White lines on black, as those of ControlNet's annotators: Canny's edges (Canny 1986) of the blurred frame at
ControlNet's thresholds, drawn as thick as a pencil's lines are in a small picture.
"""

from __future__ import annotations

import cv2
import numpy as np

from motion.video.read import Frames

LOW, HIGH = 100, 200
"""An edge begins where the gradient (Sobel, the strongest of the colours) exceeds ``HIGH``, a step of a fifth of the
brightness, and goes on above ``LOW``."""
LINES = 128
"""Lines that fit side by side into the shorter side of a frame; none is thinner than a pixel."""


def sketch(frames: Frames) -> Frames:
    """Frames ``[n, h, w, 3]`` as sketches of the same size, white on black in all three channels."""
    return np.stack([_sketch(np.ascontiguousarray(frame)) for frame in frames])


def _sketch(frame: Frames) -> Frames:
    width = max(1, round(min(frame.shape[:2]) / LINES))
    edges = cv2.Canny(cv2.GaussianBlur(frame, (3, 3), 0), LOW, HIGH)
    if width > 1:
        edges = cv2.dilate(edges, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))
    return np.repeat(edges[:, :, None], 3, axis=2)
