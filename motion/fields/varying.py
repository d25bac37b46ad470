"""The row of the field table whose value may change over frames and steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from motion.errors import MotionError
from motion.fields.curve import short
from motion.fields.curve_text import read_curve
from motion.fields.table import Field, Number, is_plain

EXAMPLE = "0: 1, 8-12: 0.4, -1: 1"


@dataclass(frozen=True)
class Varying(Number):
    """A number from `low` to `high`, or the text of a curve whose values are (`motion.fields.curve`).

    A text that spells a number is that number; another one is kept as `Curve` writes it.
    """

    metavar = "N|CURVE"

    @property
    def remedy(self) -> str:
        return f"{super().remedy}, or a curve such as {EXAMPLE}"

    def parse(self, text: str) -> Any:
        return self.check(text)

    def check(self, value: Any) -> Any:
        if not isinstance(value, str) or not is_plain(value):
            return super().check(value)
        try:
            curve = read_curve(value)
        except MotionError as error:
            raise MotionError(f"{self.name.replace('_', ' ')} is {value!r:.80}: {error}") from error
        if all(isinstance(factor, float) for factor in curve.factors):
            return super().check(curve.constant)
        low, high = curve.span
        if not self.low <= low <= high <= self.high:
            odd = low if low < self.low else high
            raise MotionError(
                f"{self.name.replace('_', ' ')} is {value!r:.80}, which comes to {odd:g}: "
                f"stay from {self.low:g} to {self.high:g}"
            )
        return str(curve)

    def write(self, value: Any) -> str:
        return value if isinstance(value, str) else short(value)

    def format(self, value: Any) -> Any:
        return self.write(value)


def check_curves(settings: Any, rows: Mapping[str, Field], frames: int) -> None:
    """Raise MotionError, naming its setting, for a curve with keys that are not in a clip of ``frames``."""
    for name, row in rows.items():
        value = getattr(settings, name)
        if isinstance(row, Varying) and isinstance(value, str):
            try:
                read_curve(value).placed(frames)
            except MotionError as error:
                raise MotionError(f"{name.replace('_', ' ')} is {value!r:.80}: {error}") from error
