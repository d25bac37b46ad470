"""One loader for pictures: upright, in 8 bits, nothing hidden, the same for key frames, training data and the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, repeat
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from motion.errors import MotionError
from motion.video.exif import EXIF_IFD, USER_COMMENT, decode_user_comment

Frame = npt.NDArray[np.uint8]  # h w 3, RGB
BACKGROUND = "#ffffff"
"""What is seen through transparent pixels: white, as the WebUIs have it unless their users choose another colour."""
MOST_PIXELS = 1 << 26
"""Of a picture and of a frame, read or written: 8192 x 8192."""
# Only what holds its own pixels: other decoders start programs (PostScript) or open further addresses.
FORMATS = ("PNG", "GIF", "WEBP", "JPEG", "BMP", "TIFF")
"""What Pillow calls the formats that are read."""
_MOVING = ("PNG", "GIF", "WEBP")  # the second picture of a JPEG is a depth or gain map, that of a TIFF a page
_FASTEST_GIF, _BROWSERS_GIF = 20, 100  # ms: what is faster, browsers play at this pace
_LONGEST, _MOST_COPIES = 3000, 8  # ms and periods: what stays longer than both is held, not repeated


def open_picture(file: Any, name: str) -> Image.Image:
    """The picture in a path or a binary file. Raises UnidentifiedImageError, and MotionError for one too large."""
    try:
        picture = Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise MotionError(f"{name} is too large: give one of {MOST_PIXELS >> 20} megapixels at most") from error
    try:
        check_size(*picture.size, name)
    except MotionError:
        picture.close()
        raise
    return picture


def check_size(width: int, height: int, name: str) -> None:
    """Raise MotionError for more pixels than a frame may have."""
    if width * height > MOST_PIXELS:
        raise MotionError(f"{name} is {width}x{height}: give one of {MOST_PIXELS >> 20} megapixels at most")


def show(picture: Image.Image, background: str = BACKGROUND) -> Frame:
    """What a viewer shows of a picture: turned as its EXIF says, deep shades scaled to 8 bits, transparency over
    ``background``.

    Whole numbers are of 16 bits and floats reach from 0 to 1; a picture that leaves its range is scaled from its
    lowest value to its highest.
    """
    picture.load()
    upright = (
        picture if picture.format == "TIFF" else ImageOps.exif_transpose(picture)
    )  # Pillow turns TIFFs as it loads
    if upright.mode in ("I", "F") or upright.mode.startswith("I;"):
        upright = _in_eight_bits(upright)
    if upright.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in upright.info:
        upright = blend(upright.convert("RGBA"), background)
    return np.asarray(upright.convert("RGB"))


def blend(picture: Image.Image, background: str) -> Image.Image:
    """A picture in RGBA over a colour."""
    return Image.alpha_composite(Image.new("RGBA", picture.size, background), picture)


def frames(picture: Image.Image, numbers: Sequence[int], background: str) -> Iterator[Frame]:
    """The pictures of a still or an animation with these numbers, which do not fall."""
    for number, copies in groupby(numbers):
        picture.seek(number)
        yield from repeat(show(picture, background), len(list(copies)))


def pace(picture: Image.Image) -> tuple[Sequence[int], float | None]:
    """Which picture of the file each frame is, and frames per second; None for a still.

    Encoders store equal neighbours as one long frame: they come back as several, each as long as the shortest. What
    stays for longer than some seconds is held for the viewer, and is one frame.
    """
    count = getattr(picture, "n_frames", 1) if picture.format in _MOVING else 1
    numbers = range(1 if count > 1 and picture.info.get("default_image") else 0, count)  # an APNG may have a cover
    if len(numbers) == 1:
        return numbers, None
    durations = np.array([_duration(picture, number) for number in numbers])
    shortest = durations.min()
    if shortest <= 0:
        return numbers, None
    # Single frames differ by a tick of rounding, so their mean is the period.
    period = durations[durations < 1.5 * shortest].mean()
    held = durations > max(_LONGEST, _MOST_COPIES * period)
    copies = np.where(held, 1, durations / period).round().astype(int)
    return np.repeat(numbers, copies).tolist(), float(1000 * copies[~held].sum() / durations[~held].sum())


def parameters(picture: Image.Image) -> str | None:
    """The generation parameters inside: a text chunk, the EXIF user comment, or a comment."""
    chunk = picture.info.get("parameters")
    if isinstance(chunk, str):
        return chunk
    comment = picture.getexif().get_ifd(EXIF_IFD).get(USER_COMMENT)
    if isinstance(comment, bytes):
        return decode_user_comment(comment)
    comment = picture.info.get("comment")
    return comment.decode(errors="replace") if isinstance(comment, bytes) else None


def _duration(picture: Image.Image, number: int) -> float:
    """How long a picture of an animation stays, in milliseconds."""
    picture.seek(number)
    picture.load()  # a WebP knows it only then
    duration = float(picture.info.get("duration", 0))
    return _BROWSERS_GIF if picture.format == "GIF" and duration < _FASTEST_GIF else duration


def _in_eight_bits(picture: Image.Image) -> Image.Image:
    values = np.asarray(picture, np.float64)
    finite = values[np.isfinite(values)]
    low, high = 0.0, 1.0 if picture.mode == "F" else 65535.0
    if finite.size and (finite.min() < low or finite.max() > high):
        low, high = float(finite.min()), float(finite.max())
    shades = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / (high - low or 1.0)
    return Image.fromarray((255 * shades).round().astype(np.uint8))
