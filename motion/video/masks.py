"""Masks: pictures and clips of which only the shade counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from motion.errors import MotionError
from motion.video.read import open_clip


def read_masks(path: Path, what: str, frames: int) -> npt.NDArray[np.float32]:
    """The mask of each frame of a clip of ``frames``, ``[frames, h, w]`` from 0 to 1, or ``[1, h, w]`` of a still.

    Raises MotionError, naming ``what`` it is for, for a file that is no clip, and for one of another length.
    """
    shown = [frame.mean(2, dtype=np.float32) / 255 for frame in open_clip(path).frames(stop=frames)]
    if len(shown) not in (1, frames):
        raise MotionError(
            f"the {what} {path} has {len(shown)} frames and the clip {frames}: give as many, or one picture"
        )
    return np.stack(shown)
