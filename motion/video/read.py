"""Read a clip, and the generation parameters inside it, whatever format it was written in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from motion.errors import MotionError
from motion.video import movies, pictures
from motion.video.destination import PathLike
from motion.video.files import CLIPS, STILLS, stills
from motion.video.pictures import BACKGROUND, Frame

Frames = npt.NDArray[np.uint8]
MOST_HELD = 1 << 32
"""Bytes of a clip that `read` holds at most: 5,400 frames of 512 x 512."""


class Clip(NamedTuple):
    frames: Frames  # f h w 3, RGB
    fps: float | None  # None for a still and for a folder of stills
    parameters: str | None


@dataclass(frozen=True)
class ClipReader:
    """A clip on the disk. Each walk over its frames opens it anew, and nothing of it is held."""

    path: Path
    fps: float | None
    """None for a still and for a folder of stills."""
    parameters: str | None
    background: str
    numbers: Sequence[int] = ()
    """Which picture of a still or an animation each frame is."""

    def count(self) -> int:
        """How many frames there are, without decoding them. Raises MotionError."""
        if _is(self.path, Path.is_dir):
            return len(stills(self.path))
        if self.numbers:
            return len(self.numbers)
        with _opened(self.path) as (_, movie):
            return movies.count(movie)

    def frames(self, start: int = 0, stop: int | None = None, step: int = 1) -> Iterator[Frame]:
        """Each ``step``-th frame from ``start`` to before ``stop``, uint8 ``[height, width, 3]``; not to be changed.

        Raises MotionError, at a frame, where the file is damaged and where a frame has another size.
        """
        shape = None
        for frame in self._frames(slice(start, stop, step)):
            shape = shape or frame.shape
            if frame.shape != shape:
                raise MotionError(f"The frames in {self.path} differ in size: keep one clip per file or folder.")
            yield frame
        if shape is None and start == 0:
            raise MotionError(_unreadable(self.path))

    def glimpses(self, places: Sequence[int]) -> Iterator[Frame]:
        """The frames at ``places``, which rise, each of its own size. Of a long movie those near: what lies
        between them is not decoded. Raises MotionError as `frames`.
        """
        if _is(self.path, Path.is_dir):
            files = list(stills(self.path))
            yield from (load_still(files[place], self.background) for place in places)
            return
        with _opened(self.path) as (picture, movie):
            if picture is not None:
                yield from pictures.frames(picture, [self.numbers[place] for place in places], self.background)
            else:
                yield from movies.glimpses(movie, places, self.background, str(self.path))

    def _frames(self, span: slice) -> Iterator[Frame]:
        if _is(self.path, Path.is_dir):
            for path in islice(stills(self.path), span.start, span.stop, span.step):
                yield load_still(path, self.background)
            return
        with _opened(self.path) as (picture, movie):
            if picture is not None:
                yield from pictures.frames(picture, self.numbers[span], self.background)
            else:
                yield from movies.frames(movie, span, self.background, str(self.path))


def open_clip(path: PathLike, background: str = BACKGROUND) -> ClipReader:
    """A clip file or a folder of frames; what is transparent stands over ``background``. Raises MotionError."""
    path = Path(path)
    if _is(path, Path.is_dir):
        return ClipReader(path, None, read_parameters(path), background)
    with _opened(path) as (picture, movie):
        if picture is not None:
            numbers, fps = pictures.pace(picture)
            return ClipReader(path, fps, pictures.parameters(picture), background, numbers)
        return ClipReader(path, movies.rate(movie), movies.parameters(movie), background)


def read(path: PathLike) -> Clip:
    """All frames of a clip file or of a folder's pictures, with the rate and the parameters.

    Raises MotionError for what is no clip, and for one that does not fit into memory.
    """
    clip = open_clip(path)
    frames: list[Frame] = []
    for frame in clip.frames():
        frames.append(frame)
        if len(frames) * frame.nbytes > MOST_HELD:
            raise MotionError(f"{path} is longer than {len(frames)} frames, too much for memory: give a shorter clip")
    return Clip(np.stack(frames), clip.fps, clip.parameters)


def read_parameters(path: PathLike) -> str | None:
    """The generation parameters inside a clip, a still or a folder's first picture; None if there are none.

    Raises MotionError for what is no clip.
    """
    path = Path(path)
    if _is(path, Path.is_dir):
        first = next(iter(stills(path)), None)
        if first is None:
            raise MotionError(f"The folder {path} holds no pictures: give one of {', '.join(STILLS)}, or a clip.")
        path = first
    with _opened(path) as (picture, movie):
        return pictures.parameters(picture) if picture is not None else movies.parameters(movie)


def load_still(path: Path, background: str = BACKGROUND) -> Frame:
    """The one picture in a file, uint8 ``[height, width, 3]``. Raises MotionError for a clip that moves."""
    first, *more = open_clip(path, background).frames(stop=2)
    if more:
        raise MotionError(f"{path} moves: a folder of frames holds stills, give a clip by itself")
    return first


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Image.Image, None] | tuple[None, object]]:
    """The file as a picture or, if it is none, as a movie. Within, whatever a parser raises is a MotionError."""
    if not _is(path, Path.is_file):  # a pipe would be waited for
        raise MotionError(f"{path} does not exist or is no file: check the name.")
    try:
        try:
            picture = pictures.open_picture(path, str(path))
        except UnidentifiedImageError:
            with movies.open_movie(path) as movie:
                yield None, movie
        else:
            with picture:
                yield picture, None
    except MotionError:
        raise
    except PermissionError as error:
        raise MotionError(f"{path} may not be read: ask its owner for the right to.") from error
    except Exception as error:  # a parser of broken files raises nearly anything
        raise MotionError(_unreadable(path)) from error


def _is(path: Path, kind: Callable[[Path], bool]) -> bool:
    try:
        return kind(path)
    except OSError:  # a name that is too long
        return False


def _unreadable(path: Path) -> str:
    return f"{path} is no clip that can be read, or is damaged: give a whole file of {', '.join(CLIPS)}."
