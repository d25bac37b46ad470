"""The colours of a GIF: one palette for the whole clip, and a dither that stays in its place.

Pattern dithering for any palette (Thomas Knoll, US patent 6,606,166, expired; Yliluoma,
https://bisqwit.iki.fi/story/howto/dither/jy/): each colour becomes a pattern of palette colours whose mean is near it,
and a pixel's place says which of them it takes. What stands still in a clip so stays as it is; errors that are diffused
crawl, since all that moves changes them everywhere behind it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]
_SAMPLE = 2**16  # pixels: enough to choose 256 colours from, more only costs time
# Which of a pattern's colours, from dark to light, a place takes (Bayer 1973).
_ORDER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]])
_STRENGTH = 0.5  # share of a colour's error that the rest of its pattern makes up for; more is more exact and coarser
_BITS = 6  # of a channel that tell colours apart
_AT_ONCE = 2**14
_LUMA = np.array((0.299, 0.587, 0.114), np.float32)


class Palette(NamedTuple):
    """At most 256 colours (Pillow's mode "P"), and the pattern of each colour of the clip; None where all are exact."""

    image: Image.Image
    patterns: npt.NDArray[np.uint8] | None


def shared_palette(clip: Pixels) -> Palette:
    """The colours that serve all pixels of a clip ``[n, h, w, 3]`` best: its own if it has so few."""
    colours = Image.fromarray(clip.reshape(-1, clip.shape[2], 3)).getcolors(256)
    if colours is not None:
        return Palette(_chosen(np.array([colour for _, colour in colours], np.uint8)), None)
    pixels = clip.reshape(-1, 3)
    image = _chosen(pixels[:: len(pixels) // _SAMPLE | 1])  # an odd step walks over all columns of even widths
    found = np.zeros(1 << 3 * _BITS, bool)
    for frame in clip:
        found[_cells(frame)] = True
    patterns = np.zeros((len(found), _ORDER.size), np.uint8)
    for cells in np.split(np.flatnonzero(found), range(_AT_ONCE, int(found.sum()), _AT_ONCE)):
        patterns[cells] = _patterns(cells, np.array(image.getpalette(), np.float32).reshape(-1, 3))
    return Palette(image, patterns)


def dither(frame: Pixels, palette: Palette) -> Image.Image:
    """A frame ``[h, w, 3]`` in the palette's colours."""
    if palette.patterns is None:
        return Image.fromarray(frame).quantize(palette=palette.image, dither=Image.Dither.NONE)
    rows, columns = (np.arange(side) % len(_ORDER) for side in frame.shape[:2])
    image = Image.fromarray(palette.patterns[_cells(frame), _ORDER[rows[:, None], columns]])
    image.putpalette(palette.image.getpalette() or [])
    return image


def _chosen(pixels: Pixels) -> Image.Image:
    sample = Image.fromarray(np.ascontiguousarray(pixels[None]))
    return sample.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=1)


def _cells(frame: Pixels) -> npt.NDArray[np.int64]:
    """The number of each pixel's colour among those that are told apart."""
    red, green, blue = np.moveaxis(frame.astype(np.int64) >> 8 - _BITS, -1, 0)
    return (red << 2 * _BITS) | (green << _BITS) | blue


def _patterns(cells: npt.NDArray[np.int64], palette: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """For each cell its pattern: indices of ``palette [n, 3]``, from dark to light, ``[cells, places]``."""
    size, mask = 1 << 8 - _BITS, (1 << _BITS) - 1
    channels = np.stack([cells >> 2 * _BITS, cells >> _BITS & mask, cells & mask], axis=-1)
    wanted = (channels * size + (size - 1) / 2).astype(np.float32)
    squares, error, chosen = (palette**2).sum(1), np.zeros_like(wanted), []
    for _ in range(_ORDER.size):
        chosen.append(np.argmin(squares - 2 * (wanted + _STRENGTH * error) @ palette.T, axis=1))
        error += wanted - palette[chosen[-1]]
    found = np.stack(chosen, axis=1)
    return np.take_along_axis(found, np.argsort((palette @ _LUMA)[found], axis=1, kind="stable"), axis=1)
