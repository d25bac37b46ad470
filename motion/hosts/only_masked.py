"""What a mask shows of a clip, such as a face, drawn larger: a box that follows it is cut out, drawn as a clip of its
own, and put back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import NamedTuple

import numpy as np
from PIL import Image

from motion.errors import MotionError
from motion.fields.table import Size
from motion.hosts.controls import Pixels
from motion.hosts.source import Measures, Source, in_order, mix
from motion.settings.settings import FIELDS
from motion.video.follow import Box, follow

PADDING = 32
"""Pixels around what a mask shows, as the WebUIs have it."""


class Place(NamedTuple):
    """A frame of the source in its own size, its mask, and the box that is drawn."""

    frame: Pixels
    mask: Pixels
    box: Box


@dataclass(frozen=True)
class OnlyMasked(Source):
    """A source of which only what its mask shows is drawn, as large as the clip, with ``padding`` pixels around it.

    Finished frames have the source's own size. Raises MotionError if the mask shows nothing.
    """

    padding: int = PADDING

    @classmethod
    def of(cls, source: Source, padding: str) -> OnlyMasked:
        """``source`` with a padding as text, "" for the usual one. Raises MotionError."""
        if source.mask is None:
            raise MotionError("there is no mask, of which only what it shows would be drawn: give one")
        if padding and not padding.isdecimal():
            raise MotionError(f"{padding} pixels around what the mask shows: give a whole number")
        return cls(**vars(source), padding=int(padding or PADDING))

    def __str__(self) -> str:
        return f"{super().__str__()}, only masked with {self.padding} pixels around"

    def measure(self, most: int = FIELDS["frames"].high) -> Measures:  # type: ignore[attr-defined]
        """As the source's, but for the size: boxes are drawn as large as is usual."""
        return super().measure(most)._replace(size=FIELDS["size"].default)

    def frames(self, count: int, size: Size) -> Iterator[Pixels]:
        """What the boxes show of the source, in that size."""
        for place in self._places(count, size, 0):
            yield _resize(place.box.of(place.frame), size)

    def masks(self, count: int, size: Size, blur: float) -> Iterator[Pixels]:
        """The same of the masks."""
        for place in self._places(count, size, blur):
            yield _resize(place.box.of(place.mask), size)

    def put_back(self, drawn: Iterator[Pixels], order: Sequence[int], count: int, blur: float) -> Iterator[Pixels]:
        """The source's frames with what was drawn in the place of what was cut out."""
        first = next(drawn)
        size = Size(first.shape[1], first.shape[0])
        places = in_order(order, lambda: self._places(count, size, blur))
        for frame, place in zip(chain([first], drawn), places, strict=True):
            yield self._put_back(frame, place)

    def _put_back(self, drawn: Pixels, place: Place) -> Pixels:
        frame = place.frame.copy()
        there = place.box.of(frame)
        box = Size(place.box.width, place.box.height)
        there[:] = mix(_resize(drawn, box), there, place.box.of(place.mask))
        return frame

    def _places(self, count: int, size: Size, blur: float) -> Iterator[Place]:
        plain = Source(**{part.name: getattr(self, part.name) for part in fields(Source)})
        height, width = next(plain.used()).shape[:2]
        own = Size(width, height)
        boxes = follow(plain.masks(count, own, blur), self.padding, size.width / size.height)
        if not boxes:
            raise MotionError(f"the mask {self.mask} shows nothing: give one that is white where it is drawn anew")
        for place in zip(plain.pictures(count), plain.masks(count, own, blur), boxes, strict=True):
            yield Place(*place)


def _resize(pixels: Pixels, size: Size) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
