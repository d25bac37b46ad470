"""Write a clip: the format is chosen by the destination's name, and a clip appears whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from uuid import uuid4

import numpy as np

from motion.errors import MotionError
from motion.video import encoders
from motion.video.destination import (
    DEFAULT_MAX_FPS,
    MAX_FPS,
    MIN_FPS,
    PathLike,
    check_destination,
    check_frame_size,
    check_text,
)
from motion.video.encoders import Encoder
from motion.video.pictures import Frame


@dataclass(frozen=True)
class Rewindable(Iterable[Frame]):
    """Frames that can be walked more than once: ``walk`` makes them anew each time."""

    walk: Callable[[], Iterator[Frame]]

    def __iter__(self) -> Iterator[Frame]:
        return self.walk()


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
    as before and nothing is left beside it. Raises MotionError for whatever cannot be written; where the disk is at
    fault, as a full one, and `frames` are no iterator but can be walked again, the clip is kept elsewhere first.
    """
    encode = check_destination(path)
    rate = _rate(fps, MAX_FPS.get(encode, DEFAULT_MAX_FPS))
    check_text(parameters)
    encode_here = partial(encode, options=h264) if encode is encoders.encode_mp4 else encode

    def write_to(place: Path) -> None:
        encode_here(_checked(frames, encode), place, rate, parameters)

    target = Path(path)
    try:
        with _in_place_when_whole(target) as part:
            write_to(part)
    except OSError as error:
        reason = f"{target} could not be written ({error.strerror or error})"
        kept = None if isinstance(frames, Iterator) else _kept_elsewhere(write_to, target.name)
        if kept is None:
            raise MotionError(f"{reason}: check the disk and the name.") from error
        raise MotionError(f"{reason}: the clip was kept as {kept}, move it from there.") from error


def _rate(fps: float | Fraction, highest: float) -> Fraction:
    try:
        rate = fps if isinstance(fps, Fraction) else Fraction(fps).limit_denominator(1001)
    except (TypeError, ValueError, OverflowError):
        rate = Fraction(0)
    if not MIN_FPS <= rate <= highest:
        raise MotionError(f"{fps!r} frames per second cannot be written: use {float(MIN_FPS)} to {highest}.")
    return rate


def _checked(frames: Iterable[Frame], encode: Encoder) -> Iterator[Frame]:
    """The frames, each contiguous and proven to be one of a clip; raises MotionError at the first that is not."""
    shape = None
    for index, frame in enumerate(frames):
        frame = np.ascontiguousarray(frame)
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0:
            raise MotionError(f"Frame {index} is {frame.dtype} {list(frame.shape)}: give uint8 [height, width, 3].")
        if shape is None:
            shape = frame.shape
            check_frame_size(encode, shape[1], shape[0])
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
    finally:
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)


def _kept_elsewhere(write_to: Callable[[Path], None], name: str) -> Path | None:
    """Where the clip now lies: a new folder on the disk with most room that takes it; None if there is none."""
    places = {Path(tempfile.gettempdir()), Path.home(), Path.cwd()}
    for place in sorted(places, key=_free_bytes, reverse=True):
        folder = None
        try:
            folder = Path(tempfile.mkdtemp(prefix="motion-", dir=place))
            write_to(folder / name)
        except OSError:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
        else:
            return folder / name
    return None


def _free_bytes(place: Path) -> int:
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return 0
