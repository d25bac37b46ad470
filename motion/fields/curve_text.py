"""The text of curves, read; `Curve` writes it."""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from types import MappingProxyType

from motion.errors import MotionError
from motion.fields.curve import Curve, Key, Loudness, Track, Value

BANDS = MappingProxyType({"all": (20, 20000), "bass": (20, 250), "mid": (250, 4000), "treble": (4000, 20000)})
"""Hertz of the bands that have names."""
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?"
_SPACE = re.compile(r"\s*")
_PLAIN = re.compile(_NUMBER + r"(?=\s*(?:\*|$))", re.ASCII)
_FRAMES = re.compile(r"(-?\d{1,6})(?:\s*-\s*(-?\d{1,6}))?\s*:", re.ASCII)
_STEPS = re.compile(r"@\s*(\d*\.?\d+)(?:\s*-\s*(\d*\.?\d+))?\s*:", re.ASCII)
_VALUE = re.compile(rf"{_NUMBER}(?![\w.@:])", re.ASCII)
_SMOOTH = re.compile(r"smooth\s+")
_AUDIO = re.compile(r"audio\s*\(")
_FILE = re.compile(r'[^\s",()*](?:[^",()*]*[^\s",()*])?|"(?:[^"\\]|\\.)*"')
_BAND = re.compile(r"[a-z]+|\d{1,5}\s*-\s*\d{1,5}", re.ASCII)


@lru_cache(maxsize=256)
def read_curve(value: Value) -> Curve:
    """The curve of a number, or that a text spells. Raises MotionError, which says at which character, from 1 on, what
    should be there."""
    return Curve((float(value),)) if not isinstance(value, str) else Curve(tuple(_Reader(value).factors()))


class _Reader:
    """Walks over a text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def factors(self) -> list[float | Track | Loudness]:
        found = [self._factor()]
        while self._take(r"\*"):
            found.append(self._factor())
        if self.at < len(self.text):
            raise self._amiss("a comma and a further key, or * and a further factor, or the end")
        return found

    def _factor(self) -> float | Track | Loudness:
        if number := self._take(_PLAIN):
            return self._finite(number[0])
        if self._take(_AUDIO):
            return self._sound()
        smooth = self._take(_SMOOTH) is not None
        keys = [self._key()]
        while self._take(","):
            keys.append(self._key(keys[-1]))
        return Track(tuple(key for _, key in keys), keys[0][0], smooth)

    def _key(self, before: tuple[bool, Key] | None = None) -> tuple[bool, Key]:
        """Whether it is one over steps, and the key; those of a track are of one kind."""
        start = self.at
        for over_steps, pattern in ((False, _FRAMES), (True, _STEPS)):
            match = self._take(pattern) if before is None or before[0] == over_steps else None
            if match:
                first, last = float(match[1]), float(match[2] or match[1])
                self._check_order(start, first, last, over_steps, before)
                value = self._take(_VALUE)
                if value is None:
                    raise self._amiss("a number")
                return over_steps, Key(first, last, self._finite(value[0]))
        if before is None:
            raise self._amiss("a number, or a key such as 8: 0.4 or @0.5: 1")
        raise self._amiss("a key such as @0.5: 1" if before[0] else "a key such as 8: 0.4")

    def _check_order(
        self, start: int, first: float, last: float, over_steps: bool, before: tuple[bool, Key] | None
    ) -> None:
        """Keys follow each other; where one counts from the end and the other from the start, the clip's length tells
        (`Track.placed`)."""
        place = _skip(self.text, start)
        same_end = (first < 0) == (last < 0)
        if same_end and last < first:
            raise self._amiss("the earlier end of the range first", place)
        if over_steps and last > 1:
            raise self._amiss("a part of the way from @0 to @1", place)
        if before is not None:
            earlier = before[1].last
            if (earlier < 0) == (first < 0) and earlier >= first:
                raise self._amiss(f"a later key than {earlier:g}", place)

    def _sound(self) -> Loudness:
        file = self._take(_FILE)
        if file is None:
            raise self._amiss("the name of a sound file")
        name = json.loads(file[0]) if file[0].startswith('"') else file[0]
        band, ends = "all", list[float]()
        if self._take(","):
            start, found = self.at, self._take(_BAND)
            band = "" if found is None else re.sub(r"\s", "", found[0])
            if not _is_band(band):
                raise self._amiss(f"a band: {', '.join(BANDS)}, or Hertz such as 60-250", _skip(self.text, start))
        while len(ends) < 2 and self._take(","):
            value = self._take(_VALUE)
            if value is None:
                raise self._amiss("a number")
            ends.append(self._finite(value[0]))
        if len(ends) == 1:
            raise self._amiss("a comma and the value of the loudest")
        if not self._take(r"\)"):
            raise self._amiss(")")
        return Loudness(name, band, *ends)

    def _finite(self, text: str) -> float:
        number = float(text)
        if not math.isfinite(number):
            raise self._amiss("a smaller number", self.at - len(text))
        return number

    def _take(self, pattern: re.Pattern[str] | str) -> re.Match[str] | None:
        """The match at this place, which is then behind it and the blanks there."""
        place = _skip(self.text, self.at)
        match = re.compile(pattern).match(self.text, place)
        if match:
            self.at = _skip(self.text, match.end())
        return match

    def _amiss(self, wanted: str, place: int | None = None) -> MotionError:
        at = _skip(self.text, self.at) if place is None else place
        rest = self.text[at : at + 20]
        where = f"at character {at + 1}, {rest!r}," if rest else "at the end"
        return MotionError(f"{where} there should be {wanted}")


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def hertz(band: str) -> tuple[int, int]:
    """The ends of a band."""
    if band in BANDS:
        return BANDS[band]
    low, high = map(int, band.split("-"))
    return low, high


def _is_band(text: str) -> bool:
    if text in BANDS:
        return True
    low, _, high = text.partition("-")
    return low.isdecimal() and high.isdecimal() and int(low) < int(high)
