"""The row of the field table that holds a list of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from motion.errors import MotionError
from motion.fields.table import Field

MOST = 10_000
"""Numbers of the longest list: one for each frame of the longest clip."""


@dataclass(frozen=True)
class Numbers(Field):
    """Any number of numbers from `low` to `high`, whole ones if `whole`, as a tuple; as text `1, 0.5, 2`."""

    low: float
    high: float
    whole: bool
    metavar = "N,N,..."

    @property
    def remedy(self) -> str:
        whole = "whole " if self.whole else ""
        return f"give {whole}numbers from {self.low} to {self.high} with commas between them, or nothing"

    def check(self, value: Any) -> Any:
        items = self._items(value) if isinstance(value, str) else value
        self._accept(value, isinstance(items, (tuple, list)) and len(items) <= MOST and all(map(self._fits, items)))
        return tuple(int(item) if self.whole else float(item) for item in items)

    def write(self, value: Any) -> str:
        return ", ".join(str(item).removesuffix(".0") for item in value)

    def format(self, value: Any) -> Any:
        return self.write(value)

    def _items(self, text: str) -> list[Any]:
        """The numbers of a text. Raises MotionError that names the first that is none."""
        parts = [part.strip() for part in text.removesuffix(",").split(",")] if text.strip() else []
        for place, part in enumerate(parts):
            if not self._fits(_number(part, self.whole)):
                name = self.name.replace("_", " ")
                raise MotionError(f"{name} is {part!r:.40} at number {place + 1}: {self.remedy}")
        return [_number(part, self.whole) for part in parts]

    def _fits(self, item: Any) -> bool:
        number = isinstance(item, (int, float)) and not isinstance(item, bool)
        return number and self.low <= item <= self.high and not (self.whole and item % 1)


def _number(text: str, whole: bool) -> int | float | None:
    """The number that `text` spells, None if it spells none."""
    try:
        return int(text) if whole else float(text)
    except ValueError:
        return None
