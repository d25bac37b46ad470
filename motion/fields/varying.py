"""The rows of the field table whose values may change over frames and steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from motion.errors import MotionError
from motion.fields.curve import Value, short
from motion.fields.curve_text import read_curve
from motion.fields.table import Field, Number, is_plain
from motion.fields.weighted import Weights

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
        return read_value(value, self.name.replace("_", " "), self.low, self.high)

    def write(self, value: Any) -> str:
        return value if isinstance(value, str) else short(value)

    def format(self, value: Any) -> Any:
        return self.write(value)

    def with_curves(self, value: Any, change: Callable[[str], Any]) -> Any:
        return change(value) if isinstance(value, str) else value


@dataclass(frozen=True)
class VaryingWeights(Weights):
    """`Weights` of which each may be the text of a curve, in text `name:"0: 1, -1: 0"`."""

    metavar = "NAME:WEIGHT|CURVE,..."

    @property
    def remedy(self) -> str:
        return f'{super().remedy}, or name:"{EXAMPLE}" for a curve'

    def with_curves(self, value: Any, change: Callable[[str], Any]) -> Any:
        return tuple(
            item._replace(weight=change(item.weight)) if isinstance(item.weight, str) else item for item in value
        )

    def _weight(self, name: str, value: Any) -> Value | None:
        if isinstance(value, str) and is_plain(value):
            return read_value(value, f"the weight of {name:.80}", self.low, self.high)
        return super()._weight(name, value)


def read_value(text: str, what: str, low: float, high: float) -> Value:
    """The number that ``text`` spells, or the curve as `Curve` writes it. Raises MotionError, naming ``what`` it is,
    unless it stays from ``low`` to ``high``."""
    try:
        curve = read_curve(text)
    except MotionError as error:
        raise MotionError(f"{what} is {text!r:.80}: {error}") from error
    least, most = curve.span
    is_number = all(isinstance(factor, float) for factor in curve.factors)
    if low <= least <= most <= high:
        return least if is_number else str(curve)
    bounds = f"from {low:g} to {high:g}"
    if is_number:
        raise MotionError(f"{what} is {text:.80}: give a number {bounds}, or a curve such as {EXAMPLE}")
    odd = least if least < low else most
    raise MotionError(f"{what} is {text!r:.80}, which comes to {odd:g}: stay {bounds}")


def check_curves(settings: Any, rows: Mapping[str, Field], frames: int) -> None:
    """Raise MotionError, naming its setting, for a curve with keys that are not in a clip of ``frames``."""

    def check(name: str, text: str) -> str:
        try:
            read_curve(text).placed(frames)
        except MotionError as error:
            raise MotionError(f"{name.replace('_', ' ')} is {text!r:.80}: {error}") from error
        return text

    for name, row in rows.items():
        row.with_curves(getattr(settings, name), partial(check, name))
