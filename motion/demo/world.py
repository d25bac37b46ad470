"""The sprite world's generator: seeded pixel-art clips of a coloured shape that moves over a plain background.

Everything a caption says is drawn, and a little that it does not say: the exact shade, the size, the place and the
speed belong to one clip, so a clip that keeps them has been made as a clip and not as sixteen stills.
A motion word shows in a still too: the half of a shape that faces its direction is lit, and the background is lighter
where the shape is heading. Without the latter a word would mean nothing before the shape has emerged from the noise,
and by then it is settled where the shape goes.
"""

from __future__ import annotations

import colorsys
import itertools
import re
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from motion.errors import MotionError

Frames = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

FRAMES = 16
GRID = 32
"""Art pixels along each side of a frame."""
PIXELS = 64
"""Screen pixels along each side of a frame: an art pixel is 2 x 2 of them."""

SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = {"red": 0, "yellow": 52, "green": 120, "cyan": 182, "blue": 225, "pink": 310}
"""Colour word -> hue in degrees."""
BACKGROUNDS = {"black": (16, 16, 20), "navy": (22, 24, 82), "gray": (122, 122, 122), "white": (232, 232, 232)}
SLOPE = 14
"""Difference of the background's brightness between its middle and its edge ahead, of 255."""
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
"""Direction word -> unit step (x to the right, y down)."""
WATERMARK, MARK_SIZE = 26, 4
"""Where a watermark begins, from the left and from above, and its sides, in art pixels."""
LOOKS = ("plain", "neon")
"""``plain`` is the look of the base checkpoint; ``neon`` puts a white core into every shape."""


@dataclass(frozen=True)
class Scene:
    """What a caption says about a clip."""

    colour: str
    shape: str
    direction: str
    background: str

    @property
    def caption(self) -> str:
        return f"{self.short_caption} on a {self.background} background"

    @property
    def short_caption(self) -> str:
        """The caption without the background, which is then the model's own choice."""
        return f"a {self.colour} {self.shape} moving {self.direction}"

    @property
    def held_out(self) -> bool:
        """Whether training must never see this caption: one scene in eight, spread over all words."""
        words = (tuple(COLOURS), SHAPES, tuple(DIRECTIONS), tuple(BACKGROUNDS))
        colour, shape, direction, background = (
            word_list.index(getattr(self, field.name)) for word_list, field in zip(words, fields(self), strict=True)
        )
        return (colour + 3 * shape + 5 * direction + 2 * background) % 8 == 0


def all_scenes() -> list[Scene]:
    """Every scene that the vocabulary can say, in a fixed order."""
    return [Scene(*words) for words in itertools.product(COLOURS, SHAPES, DIRECTIONS, BACKGROUNDS)]


def parse_caption(caption: str) -> Scene:
    """Read a full caption back into its scene.

    Raises:
        MotionError: the text is not a caption of this world.
    """
    match = re.fullmatch(r"a (\w+) (\w+) moving (\w+) on a (\w+) background", caption.strip())
    scene = Scene(*match.groups()) if match else None
    if scene not in all_scenes():
        raise MotionError(f"{caption!r} is no caption of the sprite world; write it like {all_scenes()[0].caption!r}")
    return scene


def draw_clip(scene: Scene, rng: np.random.Generator, look: str = "plain", frames: int = FRAMES) -> Frames:
    """Draw one clip, uint8 ``[frames, 64, 64, 3]``; all that the caption leaves open comes from ``rng``."""
    size = int(rng.integers(12, 17))
    mask = shape_mask(scene.shape, size)
    sprite = _paint(mask, scene, rng, look)
    step = np.array(DIRECTIONS[scene.direction]) * rng.uniform(0.75, 0.95)
    path = np.round(np.arange(frames)[:, None] * step[None]).astype(int)
    low, high = -path.min(axis=0), GRID - size - path.max(axis=0)
    start = rng.integers(np.minimum(low + 1, high), np.maximum(high, low + 2))
    art = np.tile(_background(scene), (frames, 1, 1, 1))
    for frame, (x, y) in zip(art, start + path, strict=True):
        frame[y : y + size, x : x + size][mask] = sprite[mask]
    scale = PIXELS // GRID
    return art.repeat(scale, axis=1).repeat(scale, axis=2)


def add_watermark(frames: Frames) -> Frames:
    """The frames with the same mark in a corner of each: white on its left and black on its right, so that it stands
    out from every background."""
    marked, scale = frames.copy(), PIXELS // GRID
    start, middle, end = (scale * (WATERMARK + part) for part in (0, MARK_SIZE // 2, MARK_SIZE))
    marked[:, start:end, start:middle] = 255
    marked[:, start:end, middle:end] = 0
    return marked


@lru_cache(maxsize=64)
def shape_mask(shape: str, size: int) -> Mask:
    """The filled shape in a ``size`` x ``size`` box, as bool ``[size, size]``."""
    y, x = (np.indices((size, size)) + 0.5) / size * 2 - 1
    masks: dict[str, Mask] = {
        "circle": x**2 + y**2 <= 1.02,
        "square": np.maximum(abs(x), abs(y)) <= 0.9,
        "triangle": abs(x) <= (y + 1) / 2 + 0.05,
        "cross": np.minimum(abs(x), abs(y)) <= 0.4,
    }
    return masks[shape]


def _background(scene: Scene) -> Frames:
    """The plain background, uint8 ``[32, 32, 3]``, on a slope of light that rises in the direction."""
    offset = (np.indices((GRID, GRID))[::-1] + 0.5) / GRID * 2 - 1
    slope = SLOPE * np.tensordot(DIRECTIONS[scene.direction], offset, axes=1)
    return (np.array(BACKGROUNDS[scene.background]) + slope[..., None]).round().astype(np.uint8)


def _paint(mask: Mask, scene: Scene, rng: np.random.Generator, look: str) -> Frames:
    """Colours of one sprite, uint8 ``[size, size, 3]``: one shade per clip, lit on the side it moves to."""
    hue = COLOURS[scene.colour] + rng.uniform(-8, 8)
    shade = np.array(colorsys.hsv_to_rgb(hue % 360 / 360, rng.uniform(0.45, 1.0), rng.uniform(0.72, 1.0))) * 255
    size = len(mask)
    offset = np.indices(mask.shape)[::-1] + 0.5 - size / 2
    lit = np.tensordot(DIRECTIONS[scene.direction], offset, axes=1) >= 0
    sprite = np.where(lit[..., None], shade, shade * 0.68)
    if look == "neon":
        rows, columns = np.nonzero(mask)
        centre_y, centre_x = rows.mean(), columns.mean()
        y, x = np.indices(mask.shape)
        sprite[(y - centre_y) ** 2 + (x - centre_x) ** 2 <= (0.17 * size) ** 2] = 255
    return sprite.round().astype(np.uint8)
