"""The rows of a field table: one object per setting, which names it, reads it from text, checks it and writes it.

A settings dataclass declares its fields with `setting`; `table` collects the rows. Options, interface, infotext, API
and documentation are all made from them, so a setting is written down once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from motion.errors import MotionError

DIGITS = 16
"""Hexadecimal digits of a kept picture's name, the first of its SHA-256."""


class Size(NamedTuple):
    """Width and height in pixels; written `512x512`."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True)
class Field:
    """One row of the field table: how a setting is named, read from text, checked and written."""

    name: str
    label: str
    help: str
    default: Any
    key: str
    """What infotext calls it."""
    group: str
    """Where an interface shows it."""
    needs: tuple[str, ...]
    """Fields of which one must differ from its default before this one does anything; of none it always does."""
    detail: str
    """What `help` has no room for."""

    metavar: ClassVar[str] = "TEXT"

    @property
    def remedy(self) -> str:
        """What to give instead of a refused value."""
        return "give text (valid Unicode without NUL)"

    @property
    def flag(self) -> str:
        """The command-line option, `--clip-skip` for `clip_skip`."""
        return "--" + self.name.replace("_", "-")

    def parse(self, text: str) -> Any:
        """The value that `text` spells. Raises MotionError."""
        return self.check(text)

    def check(self, value: Any) -> Any:
        """`value` in the field's own type. Raises MotionError if it is of another type or out of range."""
        return self._accept(value, isinstance(value, str) and is_plain(value))

    def write(self, value: Any) -> str:
        """`value` as infotext spells it; `parse` reads it back."""
        return str(value)

    def format(self, value: Any) -> Any:
        """`value` as a component of an interface holds it; `check` takes it back."""
        return list(value) if isinstance(value, tuple) else value

    def with_curves(self, value: Any, change: Callable[[str], Any]) -> Any:
        """`value` with what `change` makes of the text of each curve in it."""
        return value

    def _accept(self, value: Any, valid: bool) -> Any:
        if not valid:
            raise MotionError(f"{self.name.replace('_', ' ')} is {value!s:.80}: {self.remedy}")
        return value


@dataclass(frozen=True)
class Choice(Field):
    """One of a few names; infotext and interfaces hold the label, which is accepted for the name."""

    choices: Mapping[str, str]
    metavar = "NAME"

    @property
    def remedy(self) -> str:
        return "choose one of " + ", ".join(self.choices)

    def check(self, value: Any) -> Any:
        name = next((name for name, label in self.choices.items() if label == value), value)
        self._accept(value, isinstance(name, str) and name in self.choices)
        return name

    def write(self, value: Any) -> str:
        return self.choices[value]

    def format(self, value: Any) -> Any:
        return self.choices[value]


@dataclass(frozen=True)
class Number(Field):
    """A number from `low` to `high`, whole if the default is (16.0 is 16); NaN and infinity are in no range."""

    low: float
    high: float
    step: float = 0
    """Of a slider; 0: a box to type into suits better."""
    reach: float = 0
    """Where a slider ends; more is typed."""
    metavar = "N"

    @property
    def remedy(self) -> str:
        whole = "whole " if isinstance(self.default, int) else ""
        return f"give a {whole}number from {self.low} to {self.high}"

    def parse(self, text: str) -> Any:
        try:
            value = type(self.default)(text)
        except ValueError:
            value = text
        return self.check(value)

    def check(self, value: Any) -> Any:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        fits = number and self.low <= value <= self.high and not (isinstance(self.default, int) and value % 1)
        return type(self.default)(self._accept(value, fits))

    def write(self, value: Any) -> str:
        return str(value).removesuffix(".0")


@dataclass(frozen=True)
class Pixels(Field):
    """A width and a height, each a multiple of `multiple` from `low` to `high`."""

    low: int
    high: int
    multiple: int
    metavar = "WxH"

    @property
    def remedy(self) -> str:
        return f"give WIDTHxHEIGHT, each a multiple of {self.multiple} from {self.low} to {self.high}"

    def parse(self, text: str) -> Any:
        match = re.fullmatch(r"\s*(\d{1,9})\s*[xX]\s*(\d{1,9})\s*", text, re.ASCII)
        return self.check(Size(int(match[1]), int(match[2])) if match else text)

    def check(self, value: Any) -> Any:
        pair = isinstance(value, (tuple, list)) and len(value) == 2
        return Size(*self._accept(value, pair and all(map(self._side, value))))

    def _side(self, side: Any) -> bool:
        whole = isinstance(side, int) and not isinstance(side, bool)
        return whole and self.low <= side <= self.high and side % self.multiple == 0


@dataclass(frozen=True)
class Flag(Field):
    """Yes or no."""

    metavar = "yes|no"

    @property
    def remedy(self) -> str:
        return "give yes or no"

    def parse(self, text: str) -> Any:
        return self.check({"yes": True, "true": True, "no": False, "false": False}.get(text.strip().lower(), text))

    def check(self, value: Any) -> Any:
        return self._accept(value, isinstance(value, bool))

    def write(self, value: Any) -> str:
        return "yes" if value else "no"


@dataclass(frozen=True)
class Several(Field):
    """One or more of a few names, as a tuple without repeats; infotext and interfaces hold the labels, which are
    accepted for the names."""

    choices: Mapping[str, str]
    metavar = "NAME,..."

    @property
    def remedy(self) -> str:
        return "choose from " + ", ".join(self.choices)

    def parse(self, text: str) -> Any:
        return self.check(tuple(part.strip() for part in text.split(",")))

    def check(self, value: Any) -> Any:
        self._accept(value, isinstance(value, (tuple, list)) and len(value) > 0)
        self._accept(value, all(isinstance(name, str) for name in value))
        labels = {label: name for name, label in self.choices.items()}
        names = tuple(dict.fromkeys(labels.get(name, name) for name in value))
        self._accept(value, all(name in self.choices for name in names))
        return names

    def write(self, value: Any) -> str:
        return ", ".join(self.format(value))

    def format(self, value: Any) -> Any:
        return [self.choices[name] for name in value]


@dataclass(frozen=True)
class Image(Field):
    """A picture or none: base64 (also as a data URL), the digits by which a kept one is found, or what the interface's
    own picture is. Infotext has room for the digits."""

    metavar = "IMAGE"

    @property
    def remedy(self) -> str:
        return "give a picture in base64, or nothing"

    def check(self, value: Any) -> Any:
        value = None if isinstance(value, str) and not value else value
        return self._accept(value, value is None or isinstance(value, str) or hasattr(value, "convert"))

    def write(self, value: Any) -> str:
        return value if isinstance(value, str) and names_kept_picture(value) else ""


def setting(
    kind: type[Field],
    default: Any,
    label: str,
    help: str,
    *limits: Any,
    key: str,
    group: str = "main",
    needs: tuple[str, ...] = (),
    detail: str = "",
) -> Any:
    """Declare a field of a settings dataclass; `limits` are the rest of the row's own fields."""

    def row(name: str) -> Field:
        return kind(name, label, help, default, key, group, needs, detail, *limits)

    return field(default=default, metadata={"row": row})


def table(settings: type[Any]) -> Mapping[str, Field]:
    """The rows of a settings dataclass by name, in the order interfaces show them."""
    return MappingProxyType({made.name: made.metadata["row"](made.name) for made in fields(settings)})


def check(settings: Any, rows: Mapping[str, Field]) -> None:
    """Put each value of a frozen settings object into its field's own type; MotionError names the first bad one."""
    for row in rows.values():
        object.__setattr__(settings, row.name, row.check(getattr(settings, row.name)))


def markdown(rows: Mapping[str, Field]) -> str:
    """The rows as a table for the documentation."""
    lines = ["| name | label | default | accepts | what it does |", "|---|---|---|---|---|"]
    for row in rows.values():
        default = f"`{json.dumps(row.default, ensure_ascii=False)}`"
        text = "; ".join(filter(None, (row.help, row.detail)))
        lines.append(f"| `{row.name}` | {row.label} | {default} | {row.remedy} | {text} |")
    return "\n".join(lines) + "\n"


def names_kept_picture(text: str) -> bool:
    """Whether these are the digits by which a kept picture is found."""
    return re.fullmatch(rf"[0-9a-f]{{{DIGITS}}}", text, re.ASCII) is not None


def is_plain(text: str) -> bool:
    """Whether every file format can carry `text`: no NUL, no half of a surrogate pair."""
    return not re.search("[\0\ud800-\udfff]", text)
