"""Camera moves made from stills or clips: the data of a motion LoRA without a camera (Guo et al. 2023, section 4.3).

A window travels over the picture, shrinks, grows or turns. Moves are named for the camera: in "pan-left" the camera
turns to the left, and what it sees goes right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from PIL import Image

from motion.training.folder import Source
from motion.video.read import Frames, open_clip
from motion.video.write import write


class View(NamedTuple):
    """A window: its middle as an offset in widths and heights of the largest window, its size in those, its turn, and
    the turn that room is left for. Angles are in radians, clockwise."""

    x: float = 0.0
    y: float = 0.0
    size: float = 1.0
    angle: float = 0.0
    room: float = 0.0


REACH = 0.3
"""How much of the picture a move covers."""
TURN = math.radians(15)
"""How far a roll turns to either side."""

MOVES: Mapping[str, Callable[[float], View]] = MappingProxyType(
    {
        "pan-left": lambda t: View(x=-REACH * t, size=1 - REACH),
        "pan-right": lambda t: View(x=REACH * t, size=1 - REACH),
        "tilt-up": lambda t: View(y=-REACH * t, size=1 - REACH),
        "tilt-down": lambda t: View(y=REACH * t, size=1 - REACH),
        "zoom-in": lambda t: View(size=1 - REACH * (0.5 + t)),
        "zoom-out": lambda t: View(size=1 - REACH * (0.5 - t)),
        "roll-clockwise": lambda t: View(angle=2 * TURN * t, room=TURN),
        "roll-anticlockwise": lambda t: View(angle=-2 * TURN * t, room=TURN),
    }
)
"""Each move's window at the time -0.5 (its first frame) to 0.5 (its last)."""


def move_camera(frames: Frames, move: str, count: int, width: int, height: int) -> Frames:
    """``count`` frames of ``width`` x ``height`` of one of `MOVES` over ``frames``, ``[f, h, w, 3]``.

    Of a clip the frames follow each other, slowed down or hurried to its whole length; a still is one frame.
    """
    times, chosen = np.linspace(-0.5, 0.5, count), _spread(len(frames), count)
    seen = [_seen(frames[index], MOVES[move](float(t)), width, height) for index, t in zip(chosen, times, strict=True)]
    return np.stack(seen)


def _spread(length: int, count: int) -> list[int]:
    """``count`` numbers of frames over the whole of a clip."""
    return [int(number) for number in np.linspace(0, length - 1, count).round()]


def _seen(picture: np.ndarray, view: View, width: int, height: int) -> np.ndarray:
    across = min(picture.shape[1] / width, picture.shape[0] / height)
    longer = max(width, height) / min(width, height)
    step = across * view.size / (longer * math.sin(view.room) + math.cos(view.room))
    x = picture.shape[1] / 2 + view.x * across * width
    y = picture.shape[0] / 2 + view.y * across * height
    right, down = step * math.cos(view.angle), step * math.sin(view.angle)
    corner = (x - right * width / 2 + down * height / 2, y - down * width / 2 - right * height / 2)
    affine = (right, -down, corner[0], down, right, corner[1])
    image = Image.fromarray(picture).transform(
        (width, height), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC
    )
    return np.asarray(image)


def make_moves(sources: Sequence[Source], move: str, folder: Path, count: int, size: tuple[int, int]) -> list[Source]:
    """A clip of ``count`` frames of the move over each of `sources`, kept in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for source in sources:
        path = folder / f"{source.digest()[:16]}-{move}.png"
        if not path.exists():
            write(move_camera(_frames_over(source.path, count), move, count, *size), path, 8.0)
        made.append(Source(path, source.caption))
    return made


def _frames_over(path: Path, count: int) -> Frames:
    """``count`` frames over the whole of a clip, or its one; no others are held."""
    clip = open_clip(path)
    length = sum(1 for _ in clip.frames())
    wanted = _spread(length, min(count, length))
    found = {number: frame for number, frame in enumerate(clip.frames()) if number in wanted}
    return np.stack([found[number] for number in wanted])
