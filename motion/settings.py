"""The clip's description: one frozen, validated dataclass whose field table drives options, interface and infotext."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, cast

from motion.errors import MotionError

SAMPLERS: Mapping[str, str] = MappingProxyType(
    {"ddim": "DDIM", "euler": "Euler", "euler_a": "Euler a", "dpmpp_2m": "DPM++ 2M", "lcm": "LCM"}
)
"""Sampler by its option name, with the name the WebUI knows it by."""

RANDOM_SEED = -1


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

    metavar: ClassVar[str] = "TEXT"

    @property
    def remedy(self) -> str:
        """What to give instead of a refused value."""
        return "give text in valid Unicode without NUL"

    @property
    def flag(self) -> str:
        """The command-line option, `--clip-skip` for `clip_skip`."""
        return "--" + self.name.replace("_", "-")

    def parse(self, text: str) -> Any:
        """The value that `text` spells. Raises MotionError."""
        return self.check(text)

    def check(self, value: Any) -> Any:
        """`value` in the field's own type. Raises MotionError if it is of another type or out of range."""
        return self._accept(value, isinstance(value, str) and _is_plain(value))

    def write(self, value: Any) -> str:
        """`value` as infotext spells it; `parse` reads it back."""
        return str(value)

    def _accept(self, value: Any, valid: bool) -> Any:
        if not valid:
            raise MotionError(f"{self.name.replace('_', ' ')} is {value!s:.80}: {self.remedy}")
        return value


@dataclass(frozen=True)
class Choice(Field):
    """One of a few names; infotext writes the label."""

    choices: Mapping[str, str]
    metavar = "NAME"

    @property
    def remedy(self) -> str:
        return "choose one of " + ", ".join(self.choices)

    def parse(self, text: str) -> Any:
        return self.check(next((key for key, label in self.choices.items() if label == text), text))

    def check(self, value: Any) -> Any:
        return self._accept(value, isinstance(value, str) and value in self.choices)

    def write(self, value: Any) -> str:
        return self.choices[value]


@dataclass(frozen=True)
class Number(Field):
    """A number from `low` to `high`, whole if the default is; NaN and infinity are in no range."""

    low: float
    high: float
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
        kinds = int if isinstance(self.default, int) else (int, float)
        number = isinstance(value, kinds) and not isinstance(value, bool)
        return type(self.default)(self._accept(value, number and self.low <= value <= self.high))

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


def _is_plain(text: str) -> bool:
    """Whether every file format can carry `text`: no NUL, no half of a surrogate pair."""
    return not re.search("[\0\ud800-\udfff]", text)


def _setting(kind: type[Field], default: Any, label: str, help: str, *limits: Any) -> Any:
    return field(default=default, metadata={"row": lambda name: kind(name, label, help, default, *limits)})


@dataclass(frozen=True)
class Clip:
    """What to draw: everything about a clip but the model files. Every field is checked on construction.

    Raises MotionError naming the first value that is out of range.
    """

    prompt: str = _setting(Field, "", "Prompt", "what to draw; <lora:name:weight> adds a LoRA")
    negative: str = _setting(Field, "", "Negative prompt", "what to keep away from")
    steps: int = _setting(Number, 25, "Steps", "denoising steps", 1, 250)
    sampler: str = _setting(Choice, "ddim", "Sampler", "denoising method: " + ", ".join(SAMPLERS), SAMPLERS)
    cfg: float = _setting(Number, 8.0, "CFG scale", "how closely to follow the prompt; 1 = no guidance", 1, 100)
    seed: int = _setting(Number, RANDOM_SEED, "Seed", "start of the noise; -1 = random", RANDOM_SEED, 2**63 - 1)
    size: Size = _setting(Pixels, Size(512, 512), "Size", "pixels of a frame", 64, 4096, 8)  # noqa: RUF009
    clip_skip: int = _setting(Number, 1, "Clip skip", "SD1.5: use the text encoder's n-th last layer", 1, 12)
    frames: int = _setting(Number, 16, "Frames", "frames in the clip", 1, 1024)
    fps: float = _setting(Number, 8.0, "FPS", "frames per second", 0.1, 100)
    zoom: int = _setting(Number, 1, "Zoom", "draw each pixel of the finished frames n x n, for pixel art", 1, 16)
    scale: float = _setting(Number, 1.0, "Motion scale", "strength of the motion module; 0 = off", 0, 10)

    def __post_init__(self) -> None:
        for row in FIELDS.values():
            object.__setattr__(self, row.name, row.check(getattr(self, row.name)))
        if self.sampler == "lcm" and self.steps > LCM_STEPS:
            raise MotionError(f"steps is {self.steps}: the LCM sampler takes 1 to {LCM_STEPS} steps (4 to 8 are usual)")

    def seeded(self) -> Clip:
        """This clip with a seed: its own, or one drawn now if it is random."""
        return self if self.seed != RANDOM_SEED else replace(self, seed=secrets.randbelow(2**32))


LCM_STEPS = 100
"""Steps of the teacher's schedule that LCM sampling picks from (AnimateLCM's `original_inference_steps`)."""

FIELDS: Mapping[str, Field] = MappingProxyType({f.name: f.metadata["row"](f.name) for f in fields(Clip)})
"""The field table, in the order interfaces show it."""


def infotext(clip: Clip, extra: Mapping[str, object] = MappingProxyType({})) -> str:
    """The WebUI's parameters text: prompt, negative prompt, then one line of `Key: value` pairs.

    `extra` (model names and hashes) joins the pairs; empty values are left out.
    """
    pairs = {row.label: row.write(getattr(clip, row.name)) for row in _pair_fields().values()}
    pairs.update({key: str(value) for key, value in extra.items() if str(value)})
    last = ", ".join(f"{key}: {_quoted(value)}" for key, value in pairs.items())
    negative = f"{FIELDS['negative'].label}: {clip.negative}" if clip.negative else ""
    return "\n".join(part for part in (clip.prompt, negative, last) if part)


def parse_infotext(text: str) -> tuple[Clip, dict[str, str]]:
    """`infotext` backwards: the clip, and the pairs that are none of its fields. Raises MotionError."""
    prompts, _, last = ("\n" + text.strip()).rpartition("\n")
    positive, _, negative = prompts.partition(f"\n{FIELDS['negative'].label}:")
    values: dict[str, Any] = {"prompt": positive.strip(), "negative": negative.strip()}
    extra = {}
    for key, value in re.findall(r'([^:,]+): ("(?:[^"\\]|\\.)*"|[^,]*)(?:, |$)', last):
        plain = cast(str, json.loads(value)) if value.startswith('"') else value
        if key in _pair_fields():
            values[_pair_fields()[key].name] = _pair_fields()[key].parse(plain)
        else:
            extra[key] = plain
    return Clip(**values), extra


@lru_cache(maxsize=1)
def _pair_fields() -> dict[str, Field]:
    return {row.label: row for row in FIELDS.values() if row.name not in ("prompt", "negative")}


def _quoted(value: str) -> str:
    """Values that would break the line of pairs are quoted as JSON, as the WebUI does."""
    return json.dumps(value, ensure_ascii=False) if re.search(r'[,:\n"]', value) else value
