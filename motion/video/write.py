"""Write a clip: the format is chosen by the destination's name, and a clip appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path
from uuid import uuid4

import numpy as np

from motion.errors import MotionError
from motion.video import encoders
from motion.video.encoders import Encoder, Frame

ENCODERS: dict[str, Encoder] = {
    ".gif": encoders.encode_gif,
    ".webp": encoders.encode_webp,
    ".png": encoders.encode_png,
    ".apng": encoders.encode_png,
    ".mp4": encoders.encode_mp4,
    ".webm": encoders.encode_webm,
}
MIN_FPS, DEFAULT_MAX_FPS = 0.1, 240
MAX_FPS: dict[Encoder, float] = {encoders.encode_gif: 50}  # browsers slow faster frames down to 10

PathLike = str | os.PathLike[str]


def write(
    frames: Iterable[Frame],
    path: PathLike,
    fps: float | Fraction,
    parameters: str = "",
    h264: Mapping[str, str] = encoders.NO_OPTIONS,
) -> None:
    """Encode `frames` into `path` in the format of its suffix, with the generation parameters inside.

    frames      uint8, "f h w 3" as one array, or an iterable of "h w 3"; MP4, WebM and folders stream it
    path        .gif, .webp (lossless), .png (a still for one frame, an APNG for several), .apng, .mp4, .webm;
                no suffix, a trailing slash or an empty folder: a folder of 00000.png, 00001.png, ...
    fps         frames per second, 0.1 to 240 (GIF: to 50); a float is taken as the nearest n/1001 or simpler
    parameters  any text; PNG chunk `parameters`, GIF and movie comment, WebP EXIF user comment
    h264        options of MP4's encoder that count instead of ours: crf, preset, profile

    An existing file is replaced, at the end and at once; after any exception, from `frames` too, the destination is
    as before and nothing is left beside it. Raises MotionError for whatever cannot be written.
    """
    encode = check_destination(path)
    rate = _rate(fps, MAX_FPS.get(encode, DEFAULT_MAX_FPS))
    check_text(parameters)
    if encode is encoders.encode_mp4:
        encode = partial(encoders.encode_mp4, options=h264)
    with _in_place_when_whole(Path(path)) as part:
        encode(_checked(frames), part, rate, parameters)


def check_destination(path: PathLike) -> Encoder:
    """The encoder for `path`; MotionError where `write` could not put a clip. Cheap, and touches nothing."""
    name, target = os.fspath(path), Path(path)
    if not name or "\0" in name:
        raise MotionError(f"{name!r} is no file name: give one that ends in {', '.join(ENCODERS)}.")
    if not target.parent.is_dir():
        raise MotionError(f"The folder {target.parent} of {name} does not exist: create it or choose another.")
    if not os.access(target.parent, os.W_OK):
        raise MotionError(f"The folder {target.parent} cannot be written to: choose another for {target.name}.")
    if target.is_dir():
        if any(target.iterdir()):
            raise MotionError(f"The folder {name} is not empty: name an empty or new one, or a file in it.")
        return encoders.encode_folder
    if name.endswith(("/", os.sep)) or not target.suffix:
        if target.exists():
            raise MotionError(f"{target} is a file, not a folder: give a name that ends in {', '.join(ENCODERS)}.")
        return encoders.encode_folder
    return encoder_for(target.suffix.lower())


def encoder_for(suffix: str, fps: float = 1.0) -> Encoder:
    """The encoder of a format; MotionError for one that is unknown, not installed or does not play ``fps``."""
    encode = ENCODERS.get(suffix)
    if encode is None:
        raise MotionError(f"{suffix!r} is no clip format: use {', '.join(ENCODERS)}, or a folder's name.")
    if encode in (encoders.encode_mp4, encoders.encode_webm):
        encoders.import_av()
    check_rate(encode, fps)
    return encode


def check_rate(encode: Encoder, fps: float) -> None:
    """Raise MotionError for frames per second that players of the format slow down."""
    highest = MAX_FPS.get(encode, DEFAULT_MAX_FPS)
    if fps > highest:
        suffix = next((suffix for suffix, encoder in ENCODERS.items() if encoder is encode), "a folder")
        raise MotionError(f"fps is {fps:g}: {suffix} plays {highest} at most")


def _rate(fps: float | Fraction, highest: float) -> Fraction:
    try:
        rate = fps if isinstance(fps, Fraction) else Fraction(fps).limit_denominator(1001)
    except (TypeError, ValueError, OverflowError):
        rate = Fraction(0)
    if not MIN_FPS <= rate <= highest:
        raise MotionError(f"{fps!r} frames per second cannot be written: use {MIN_FPS} to {highest}.")
    return rate


def check_text(parameters: str) -> None:
    """Raise MotionError for text that no clip can carry."""
    try:
        parameters.encode()
    except UnicodeEncodeError as error:
        raise MotionError(f"The parameters hold broken Unicode ({error}): retype the prompt.") from None
    if "\0" in parameters:
        raise MotionError("The generation parameters hold a NUL character, which no clip can carry: remove it.")


def _checked(frames: Iterable[Frame]) -> Iterator[Frame]:
    """The frames, each contiguous and proven to be one of a clip; raises MotionError at the first that is not."""
    shape = None
    for index, frame in enumerate(frames):
        frame = np.ascontiguousarray(frame)
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0:
            raise MotionError(f"Frame {index} is {frame.dtype} {list(frame.shape)}: give uint8 [height, width, 3].")
        shape = shape or frame.shape
        if frame.shape != shape:
            sizes = "{1}x{0} but {3}x{2}".format(*frame.shape[:2], *shape[:2])
            raise MotionError(f"Frame {index} is {sizes} came before it: all frames of a clip must be of one size.")
        yield frame
    if shape is None:
        raise MotionError("There are no frames to write: a clip needs at least one.")


@contextmanager
def _in_place_when_whole(target: Path) -> Iterator[Path]:
    """A path beside `target` to write to; it takes `target`'s place at the end, or vanishes with the exception."""
    part = target.with_name(f".motion-{uuid4().hex[:12]}.part")
    try:
        yield part
        if target.is_dir():
            target.rmdir()  # Windows does not move a folder onto an empty one
        part.replace(target)
    except OSError as error:
        raise MotionError(f"{target} could not be written ({error}): check the disk and the name.") from error
    finally:
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)
