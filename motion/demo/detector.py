"""The sprite world's judge: reads shape, colour, place and look back from pixels, without any learned part."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from motion.demo.world import (
    COLOURS,
    DIRECTIONS,
    GRID,
    MARK_SIZE,
    PIXELS,
    SHAPES,
    WATERMARK,
    Frames,
    Mask,
    shape_mask,
)

CONTRAST = 44.0
"""RGB distance from the background (0 to 441) from which a pixel belongs to a shape."""
SMALLEST = 80
"""Pixels of the smallest thing that counts as a shape; the world's smallest has 320."""
SAME_SHADE = 36.0
"""RGB distance within which two frames show the same shade; shades of one colour word differ by up to 120."""
LEAST_TRAVEL = 8.0
"""Pixels that a shape must travel in a clip to have a direction; the world's slowest travels 22."""
MARKED = 50.0
"""Difference of brightness between the halves of a watermark (0 to 255) from which it counts as one. The bundled
autoencoder blurs what is so small: it leaves 72 to 143 of the mark's own 255, and at most 34 where there is none."""
_TEMPLATE = 24


@dataclass(frozen=True)
class Sprite:
    """What one frame shows. ``centroid`` is (x, y) in pixels, ``area`` in square ones; ``rgb`` the mean colour, 0 to
    255."""

    shape: str
    colour: str
    centroid: tuple[float, float]
    area: int
    rgb: tuple[float, float, float]
    look: str


def read_frame(frame: Frames) -> Sprite | None:
    """Find the shape in a frame, uint8 ``[h, w, 3]``; ``None`` if nothing stands out from the background."""
    mask = _segment(frame)
    if mask is None:
        return None
    rows, columns = np.nonzero(mask)
    centroid = (float(columns.mean()), float(rows.mean()))
    core = _core(frame, mask)
    pixels = frame[mask & ~core].astype(np.float64)
    return Sprite(
        shape=_classify(mask),
        colour=_colour_word(pixels),
        centroid=centroid,
        area=int(mask.sum()),
        rgb=tuple(pixels.mean(axis=0).tolist()),
        look="neon" if core.sum() >= 0.04 * mask.sum() else "plain",
    )


def read_clip(frames: Sequence[Frames] | Frames) -> list[Sprite | None]:
    """``read_frame`` of every frame."""
    return [read_frame(frame) for frame in frames]


def is_constant(sprites: Sequence[Sprite | None]) -> bool:
    """Whether every frame shows the same shape in the same shade."""
    found = [sprite for sprite in sprites if sprite is not None]
    if not found or len(found) < len(sprites):
        return False
    shades = np.array([sprite.rgb for sprite in found])
    far = np.linalg.norm(shades - np.median(shades, axis=0), axis=1).max()
    return len({sprite.shape for sprite in found}) == 1 and bool(far <= SAME_SHADE)


def direction(sprites: Sequence[Sprite | None]) -> str | None:
    """The word for the way the shape moves, from a line fitted to its track; ``None`` if it stays or is lost."""
    change = changes(sprites)
    if change is None or np.linalg.norm(change[:2]) < LEAST_TRAVEL:
        return None
    return max(DIRECTIONS, key=lambda word: float(np.dot(DIRECTIONS[word], change[:2])))


def changes(sprites: Sequence[Sprite | None]) -> npt.NDArray[np.float64] | None:
    """How far the shape goes to the right and down in the clip, in pixels, and the natural logarithm of what its
    area is multiplied with, ``[3]``: by lines fitted to all three. ``None`` if it is lost."""
    track = [(time, *sprite.centroid, np.log(sprite.area)) for time, sprite in enumerate(sprites) if sprite is not None]
    if len(track) < max(2, len(sprites) // 2):
        return None
    time, *values = np.array(track).T
    return np.array([np.polyfit(time, value, 1)[0] for value in values]) * (len(sprites) - 1)


def has_watermark(frame: Frames) -> bool:
    """Whether the world's watermark is in a frame, uint8 ``[64, 64, 3]``."""
    scale = PIXELS // GRID
    place = slice(scale * WATERMARK, scale * (WATERMARK + MARK_SIZE))
    left, right = np.split(frame[place, place].astype(np.float64), 2, axis=1)
    return bool(left.mean() - right.mean() > MARKED)


def _segment(frame: Frames) -> Mask | None:
    """The largest connected region unlike the background (the median of the frame's rim), holes filled."""
    rim = np.concatenate([frame[:2].reshape(-1, 3), frame[-2:].reshape(-1, 3), frame[:, 0], frame[:, -1]])
    distance = np.linalg.norm(frame.astype(np.float64) - np.median(rim, axis=0), axis=-1)
    contours, _ = cv2.findContours((distance > CONTRAST).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return None
    filled = np.zeros(frame.shape[:2], dtype=np.uint8)
    cv2.drawContours(filled, [max(contours, key=cv2.contourArea)], -1, 1, cv2.FILLED)
    return filled.astype(bool) if filled.sum() >= SMALLEST else None


def _classify(mask: Mask) -> str:
    """The shape whose ideal, stretched into the same box, overlaps best (intersection over union)."""
    rows, columns = np.nonzero(mask)
    box = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    box = cv2.resize(box.astype(np.uint8), (_TEMPLATE, _TEMPLATE), interpolation=cv2.INTER_NEAREST).astype(bool)

    def overlap(shape: str) -> float:
        ideal = shape_mask(shape, _TEMPLATE)
        return float((box & ideal).sum() / (box | ideal).sum())

    return max(SHAPES, key=overlap)


def _core(frame: Frames, mask: Mask) -> Mask:
    """Nearly white pixels in the middle of the shape: the mark of the neon look."""
    inside = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    core: Mask = inside & (frame.min(axis=-1) >= 165)
    return core


def _colour_word(pixels: npt.NDArray[np.float64]) -> str:
    """The colour word nearest in hue to the pixels ``[n, 3]``, weighed by their chroma."""
    angles, weights = [], []
    for red, green, blue in pixels / 255:
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        angles.append(hue * 2 * np.pi)
        weights.append(saturation * value)
    mean = np.angle(np.sum(np.array(weights) * np.exp(1j * np.array(angles)))) * 180 / np.pi
    return min(COLOURS, key=lambda word: abs((mean - COLOURS[word] + 180) % 360 - 180))
