"""A clip of which another is made: a movie, an animation or a folder of frames, read as a stream, and its mask."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from motion.errors import MotionError
from motion.fields.table import Size
from motion.hosts.controls import Pixels, fit_image
from motion.settings.choices import MOST_FRAMES
from motion.settings.settings import FIELDS
from motion.settings.source import parse_range
from motion.video.read import open_clip

ROUNDING = 1e-6
"""Of a frame: what its number may lose on its way through seconds."""
HALF = 128
"""From here on of 255 a mask draws anew where there is no between, as the WebUIs round it."""
_HELD = 32
"""Frames that are held where a clip is played backwards, which is read forwards."""
Shown = TypeVar("Shown")


class Measures(NamedTuple):
    """What a clip that is made of a source takes from it."""

    frames: int
    fps: float | None
    """None of a still and of a folder."""
    size: Size


@dataclass(frozen=True)
class Source:
    """The file or folder, and which of its frames are used: each ``every``-th from ``start`` to before ``stop``."""

    path: Path
    start: int = 0
    stop: int | None = None
    every: int = 1
    mask: Path | None = None
    """A picture, clip or folder of frames that is white where the clip is drawn anew; the source stays elsewhere."""
    fps: float | None = None
    """To which of these frames are left out or repeated; None: as they are."""
    mask_by_use: bool = False
    """Whether the mask's frames are of those that are used alone, and not of the file's."""

    @classmethod
    def parse(cls, path: str, span: str | None, every: str | None, mask: Path | None = None) -> Source:
        """Of texts: ``span`` is `FIRST-LAST`, either may be left out, counted from 0. Raises MotionError."""
        start, stop = parse_range(span or "")
        if not (every or "1").isdecimal() or int(every or "1") < 1:
            raise MotionError(f"every {every}. frame of the source clip: give a whole number from 1 on")
        return cls(Path(path), start, stop, int(every or "1"), mask)

    def __str__(self) -> str:
        """The name, which frames, and the mask's name."""
        stop = "" if self.stop is None else self.stop - 1
        part = f", frames {self.start}-{stop}" if self.start or self.stop is not None else ""
        every = f", every {self.every}." if self.every > 1 else ""
        return self.path.name + part + every + (f", mask {self.mask.name}" if self.mask is not None else "")

    def measure(self, most: int = MOST_FRAMES) -> Measures:
        """What a clip takes from it, up to ``most`` frames, without decoding more than one. Raises MotionError for what
        is none.

        The size is the source's, made smaller if it has more pixels than the usual one, in steps of the setting's.
        """
        clip = open_clip(self.path)
        first = next(clip.frames(self.start, self.stop, self.every), None)
        if first is None:
            raise MotionError(f"{self.path} has no frame {self.start}: give a range that lies in it")
        rate, apart = clip.fps and clip.fps / self.every, self._apart()
        count = len(range(clip.count())[self.start : self.stop : self.every])
        count = min(math.ceil(count / apart - ROUNDING), most)
        size, usual = FIELDS["size"], FIELDS["size"].default
        step, least = size.multiple, size.low  # type: ignore[attr-defined]
        height, width = first.shape[:2]
        smaller = min(1.0, (usual.width * usual.height / (height * width)) ** 0.5)
        height, width = (max(least, round(side * smaller / step) * step) for side in (height, width))
        return Measures(count, self.fps or rate, Size(width, height))

    def glimpses(self, count: int) -> list[Pixels]:
        """Up to so many of the frames that are used, spread over them evenly, as they are in the file. Of a long movie
        those near. Raises MotionError.
        """
        clip = open_clip(self.path)
        used = range(clip.count())[self.start : self.stop : self.every]
        places = dict.fromkeys(used[number * len(used) // count] for number in range(count) if used)
        return list(clip.glimpses(list(places)))

    def frames(self, count: int, size: Size) -> Iterator[Pixels]:
        """The first ``count`` of the frames that are used, in that size: filled, and cut to their middle.

        A still is as many frames as are wanted. Raises MotionError if there are several and fewer.
        """
        return (fit_image(frame, size, "crop") for frame in self.pictures(count))

    def pictures(self, count: int) -> Iterator[Pixels]:
        """The same frames as they are in the file."""
        found, last = 0, None
        for last in islice(self.used(), count):
            found += 1
            yield last
        if found == 1 and last is not None:
            yield from [last] * (count - 1)
        elif found < count:
            raise MotionError(
                f"the source clip {self.path} has {found} frames and the clip {count}: give fewer, or a longer source"
            )

    def masks(self, count: int, size: Size, blur: float) -> Iterator[Pixels]:
        """The mask of each of those frames, uint8 ``[height, width]``: 255 where it is drawn anew, 0 where the source
        stays, between them where it is blurred by a Gaussian of ``blur`` pixels. A still is the mask of all.

        Raises MotionError if there is no mask, or there are several and fewer.
        """
        for frame in self.mask_clip().frames(count, size):
            grey = Image.fromarray(frame).convert("L")
            yield np.asarray(grey.filter(ImageFilter.GaussianBlur(blur)))

    def mask_clip(self) -> Source:
        """The mask as a clip of its own: of a still all frames, else those that belong to the source's.

        Raises MotionError if there is none.
        """
        if self.mask is None:
            raise MotionError(f"the source clip {self.path} has no mask: give one")
        whole = self.mask_by_use or len(list(open_clip(self.mask).frames(stop=2))) == 1
        return Source(self.mask) if whole else replace(self, path=self.mask, mask=None)

    def put_back(self, drawn: Iterator[Pixels], order: Sequence[int], count: int, blur: float) -> Iterator[Pixels]:
        """The frames ``drawn``, of which ``order`` has the numbers, and in them where the mask keeps it the source, of
        which ``count`` are used, in its own pixels; without a mask as they are."""
        if self.mask is None:
            return drawn
        return self._with_kept(drawn, order, count, blur)

    def _with_kept(self, drawn: Iterator[Pixels], order: Sequence[int], count: int, blur: float) -> Iterator[Pixels]:
        first = next(drawn)
        size = Size(first.shape[1], first.shape[0])

        def walk() -> Iterator[tuple[Pixels, Pixels]]:
            return zip(self.frames(count, size), self.masks(count, size, blur), strict=True)

        for frame, (kept, mask) in zip(chain([first], drawn), in_order(order, walk), strict=True):
            yield mix(frame, kept, mask)

    def used(self) -> Iterator[Pixels]:
        """All frames that are used, as they are."""
        frames, apart, due = open_clip(self.path).frames(self.start, self.stop, self.every), self._apart(), 0
        for number, frame in enumerate(frames):
            while int(due * apart + ROUNDING) <= number:
                yield frame
                due += 1

    def _apart(self) -> float:
        """How many of the file's frames one that is used stands for. Raises MotionError for a rate of what has none."""
        if self.fps is None:
            return 1.0
        rate = open_clip(self.path).fps
        if rate is None:
            raise MotionError(f"{self.path} has no frame rate of its own: leave the target FPS at 0")
        return rate / self.every / self.fps


def in_latents(mask: Pixels) -> npt.NDArray[np.bool_]:
    """A mask in the size of latents, ``[h, w]``: what is half masked or more is drawn anew, as in the WebUIs."""
    height, width = mask.shape
    anew: npt.NDArray[np.bool_] = mask.reshape(height // 8, 8, width // 8, 8).mean((1, 3)) >= HALF
    return anew


def mix(drawn: Pixels, kept: Pixels, mask: Pixels) -> Pixels:
    """``drawn`` as far as the ``mask [height, width]`` shows it, elsewhere ``kept``, bit-equal where it is 0."""
    share = mask[:, :, None].astype(np.uint16)
    return ((share * drawn + (255 - share) * kept + 127) // 255).astype(np.uint8)


def in_order(numbers: Sequence[int], walk: Callable[[], Iterator[Shown]]) -> Iterator[Shown]:
    """What ``walk`` gives at these places, in their order; it goes forwards, and begins anew for what it has passed."""
    held: dict[int, Shown] = {}
    ahead, at = walk(), 0
    for number in numbers:
        if number < at and number not in held:
            held, ahead, at = {}, walk(), 0
        while at <= number:
            held[at] = next(ahead)
            held.pop(at - _HELD, None)
            at += 1
        yield held[number]
