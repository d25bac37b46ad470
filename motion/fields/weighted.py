"""The field that names files and how strongly each counts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from motion.errors import MotionError
from motion.fields.curve import Value, short
from motion.fields.table import Field, is_plain

_BARE = r'[^\s",](?:[^",]*?[^\s",])??'
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_WEIGHTED = re.compile(rf"\s*({_BARE}|{_QUOTED})\s*(?::\s*([-+.0-9eE]+|{_QUOTED})\s*)?(?:,|$)")


_NO_WEIGHT = re.compile(r'([^"]*):([^:/\\"]*)', re.DOTALL)
"""A name without a weight that ends in what should be one; a path may have a colon in front of its slashes."""


def read_number(text: str, low: float, high: float, what: str) -> float:
    """How strongly ``what`` counts, as ``text`` spells it. Raises MotionError unless it is from ``low`` to ``high``."""
    with suppress(ValueError):
        if low <= (number := float(text)) <= high:
            return number
    raise MotionError(f"{what} is {text:.40}: give a number from {low:g} to {high:g}")


class Weighted(NamedTuple):
    """A file by its name and how strongly it counts, which may be a curve; written `name:weight` or `name:"curve"`."""

    name: str
    weight: Value = 1.0

    def __str__(self) -> str:
        name = self.name if re.fullmatch(_BARE, self.name) else json.dumps(self.name, ensure_ascii=False)
        weight = json.dumps(self.weight, ensure_ascii=False) if isinstance(self.weight, str) else short(self.weight)
        return f"{name}:{weight}"


@dataclass(frozen=True)
class Weights(Field):
    """Any number of names, each with a weight from `low` to `high` (1 where none is given), as a tuple of `Weighted`.

    As text `name:0.8, name:-1`; a name with a comma or a quotation mark in it is written as a JSON string. An interface
    holds JSON, a list of pairs, and nothing for none.
    """

    low: float
    high: float
    metavar = "NAME:WEIGHT,..."

    @property
    def remedy(self) -> str:
        return f"give name:weight, name:weight ... with weights from {self.low} to {self.high}"

    def check(self, value: Any) -> Any:
        items: Any = _items(value) if isinstance(value, str) else value
        self._accept(value, isinstance(items, (tuple, list)))
        found = [self._weighted(item) for item in items]
        self._accept(value, None not in found)
        return tuple(found)

    def write(self, value: Any) -> str:
        return ", ".join(map(str, value))

    def format(self, value: Any) -> Any:
        return json.dumps(value, ensure_ascii=False) if value else ""

    def _weighted(self, item: Any) -> Weighted | None:
        """What `item` says, or None."""
        if not isinstance(item, (tuple, list)) or len(item) != 2 or not isinstance(item[0], str):
            return None
        weight = self._weight(*item)
        return Weighted(item[0], weight) if item[0] and is_plain(item[0]) and weight is not None else None

    def _weight(self, name: str, value: Any) -> Value | None:
        """The weight of a name; None for what is none."""
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return float(value) if number and self.low <= value <= self.high else None


@dataclass(frozen=True)
class WeightedChoices(Weights):
    """`Weights` whose names are some of a few; an interface holds text."""

    choices: Mapping[str, str]

    @property
    def remedy(self) -> str:
        return f"{super().remedy}, of {', '.join(self.choices)}"

    def check(self, value: Any) -> Any:
        items: Any = None
        with suppress(MotionError):
            items = super().check(value)
        self._accept(value, items is not None and all(name in self.choices for name, _ in items))
        return items

    def format(self, value: Any) -> Any:
        return self.write(value)


def _items(text: str) -> Any:
    """The items of `name:weight, name`, or what a JSON list holds; None for another text.

    Raises MotionError for a weight that is no number.
    """
    text = text.strip().removesuffix(",")
    if text.startswith("["):
        with suppress(ValueError, RecursionError):  # a name may begin so, too
            return json.loads(text)
    items: list[Weighted] = []
    at = 0
    while at < len(text):
        match = _WEIGHTED.match(text, at)
        if match is None:
            return None
        name, weight, at = match[1], match[2] or "1", match.end()
        if match[2] is None and (amiss := _NO_WEIGHT.fullmatch(name)):
            raise MotionError(
                f"the weight of {amiss[1]:.80} is {amiss[2]!r:.40}: give name:weight, a number such as 0.8"
            )
        try:
            how = json.loads(weight) if weight.startswith('"') else float(weight)
            items.append(Weighted(json.loads(name) if name.startswith('"') else name, how))
        except ValueError:
            return None
    return items
