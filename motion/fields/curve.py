"""Curves: values over the frames of a clip and the steps of its sampling, and the text that users write them as.

A curve is a product of factors, ``2 * 0: 1, 8-12: 0.4, -1: 1 * @0: 1, @0.5: 0``: numbers, keys over frames (a frame or
a range of them, from 0 on or back from the last, -1), keys over steps (``@0`` is the first step, ``@1`` the last), and
the loudness of a sound, ``audio(file, band)``. Between keys a value goes straight, after the word ``smooth`` it eases
out of one and into the next; before the first key and behind the last it stays.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from motion.errors import MotionError

Value = float | str
"""A number, or the text of a curve."""


class Key(NamedTuple):
    """A value at a frame, or at a part of the way through sampling, or from one of these to another."""

    first: float
    last: float
    value: float


class Track(NamedTuple):
    """A value that goes from key to key, over frames or over steps."""

    keys: tuple[Key, ...]
    over_steps: bool = False
    smooth: bool = False

    def __str__(self) -> str:
        keys = ", ".join(f"{self._place(key)}: {short(key.value)}" for key in self.keys)
        return f"smooth {keys}" if self.smooth else keys

    def _place(self, key: Key) -> str:
        end = "" if key.first == key.last else f"-{short(key.last)}"
        return f"{'@' if self.over_steps else ''}{short(key.first)}{end}"

    def placed(self, frames: int) -> Track:
        """With the frames of its keys as numbers from 0 on in a clip of ``frames``. Where two keys, of which one counts
        from the end, name the same frame, the later one counts there.

        Raises MotionError for those that are not in the clip, and for keys out of order.
        """
        if self.over_steps:
            return self
        placed: list[Key] = []
        for own in self.keys:
            first, last = (at + frames if at < 0 else at for at in own[:2])
            key = Key(first, last, own.value)
            if not 0 <= key.first <= key.last < frames:
                raise MotionError(f"{self._place(own)} is not in a clip of {frames} frames: give 0 to {frames - 1}")
            if placed and placed[-1].last > key.first:
                raise MotionError(f"{self._place(own)} comes behind a later key: write keys in the order of the frames")
            if placed and placed[-1].last == key.first:
                before = placed.pop()
                if before.first < key.first:
                    placed.append(before._replace(last=key.first - 1))
            placed.append(key)
        return self._replace(keys=tuple(placed))

    def at(self, place: float) -> float:
        """The value at a frame or a part of the way, of a track that is `placed`."""
        number = bisect_right(self.keys, place, key=lambda key: key.first)
        before, after = self.keys[max(number - 1, 0)], self.keys[min(number, len(self.keys) - 1)]
        if not before.last < place < after.first:
            return before.value
        way = (place - before.last) / (after.first - before.last)
        way = way * way * (3 - 2 * way) if self.smooth else way
        return before.value + (after.value - before.value) * way


class Loudness(NamedTuple):
    """The loudness of a sound in a band, from ``quiet`` (silence) to ``loud`` (its loudest), a value a frame."""

    file: str
    band: str = "all"
    quiet: float = 0.0
    loud: float = 1.0

    def __str__(self) -> str:
        bare = not set(self.file) & set('",()*') and self.file == self.file.strip()
        file = self.file if bare else json.dumps(self.file, ensure_ascii=False)
        span = () if (self.quiet, self.loud) == (0, 1) else (self.quiet, self.loud)
        return f"audio({', '.join([file, self.band, *map(short, span)])})"


@dataclass(frozen=True)
class Curve:
    """The product of its factors; as text, `motion.fields.curve_text.read_curve` reads it."""

    factors: tuple[float | Track | Loudness, ...]

    def __str__(self) -> str:
        return " * ".join(short(factor) if isinstance(factor, float) else str(factor) for factor in self.factors)

    @property
    def constant(self) -> float | None:
        """The number that it is everywhere; None if it changes."""
        low, high = zip(*map(_span, self.factors), strict=True)
        return math.prod(low) if low == high else None

    @property
    def over_steps(self) -> bool:
        """Whether it changes while a clip is drawn."""
        return any(isinstance(factor, Track) and factor.over_steps for factor in self.factors)

    @property
    def sounds(self) -> tuple[Loudness, ...]:
        """What it is to hear."""
        return tuple(factor for factor in self.factors if isinstance(factor, Loudness))

    @property
    def span(self) -> tuple[float, float]:
        """Between which numbers its values are."""
        low, high = 1.0, 1.0
        for least, most in map(_span, self.factors):
            products = [low * least, low * most, high * least, high * most]
            low, high = min(products), max(products)
        return low, high

    def placed(self, frames: int) -> Curve:
        """For a clip of ``frames``; see `Track.placed`."""
        placed = (factor.placed(frames) if isinstance(factor, Track) else factor for factor in self.factors)
        return replace(self, factors=tuple(placed))

    def of_first(self, frames: int) -> Curve:
        """As the first of ``frames`` goes through the steps."""
        placed = self.placed(frames).factors
        return Curve(tuple(f.at(0) if isinstance(f, Track) and not f.over_steps else f for f in placed))

    def heard(self, hear: Callable[[Loudness], Sequence[float]]) -> Curve:
        """With keys in the place of sounds, of which ``hear`` gives the loudness from 0 to 1 in each frame."""
        heard = (_loud(factor, hear(factor)) if isinstance(factor, Loudness) else factor for factor in self.factors)
        return replace(self, factors=tuple(heard))

    def at(self, frames: int, way: float = 0.0) -> list[float]:
        """The value of each of ``frames`` at a part of the way through sampling, 0 to 1.

        Raises MotionError as `Track.placed`, and for a sound that is not `heard` yet.
        """
        if self.sounds:
            raise MotionError(f"the sound {self.sounds[0].file} has not been read: settle the curve with heard()")
        values = [1.0] * frames
        for factor in self.placed(frames).factors:
            if isinstance(factor, Track):
                steady = factor.at(way) if factor.over_steps else None
                found = [factor.at(frame) if steady is None else steady for frame in range(frames)]
            else:
                found = [float(factor)] * frames  # type: ignore[arg-type]
            values = [value * more for value, more in zip(values, found, strict=True)]
        return values


@lru_cache(maxsize=256)
def short(number: float) -> str:
    """``number`` as it is written, without a needless point."""
    return str(float(number)).removesuffix(".0")


def _span(factor: float | Track | Loudness) -> tuple[float, float]:
    if isinstance(factor, Track):
        values = [key.value for key in factor.keys]
        return min(values), max(values)
    if isinstance(factor, Loudness):
        return min(factor.quiet, factor.loud), max(factor.quiet, factor.loud)
    return factor, factor


def _loud(sound: Loudness, loudness: Sequence[float]) -> Track:
    values = [round(sound.quiet + (sound.loud - sound.quiet) * share, 4) for share in loudness]
    return Track(tuple(Key(frame, frame, value) for frame, value in enumerate(values)))
