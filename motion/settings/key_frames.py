"""The field that says which images a clip obeys, and where."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from motion.errors import MotionError
from motion.fields.curve import Value, short
from motion.fields.curve_text import read_curve
from motion.fields.numbers import Numbers
from motion.fields.table import DIGITS, Choice, Field, Flag, Number, is_plain, names_kept_picture, setting
from motion.fields.varying import Varying, read_value
from motion.settings.choices import FITS

STRONGEST = 10

_PLACES = re.compile(r"[-+\d, ]+|[a-z]+", re.ASCII)
_BARE = r'[^\s";](?:[^";]*?[^\s";])??'
_TEXT = re.compile(
    rf'\s*({_PLACES.pattern})=([0-9a-f]{{{DIGITS}}})(?:=([-+.\deE]+|"[^"\\]*"))?'
    rf'(?:\s+({_BARE}|"(?:[^"\\]|\\.)*"))?\s*(?:;|$)',
    re.ASCII,
)


class KeyFrame(NamedTuple):
    """An image that a clip obeys; as text `frame=image=strength encoder`, as the API takes it an object of these names.

    `frame` is a number, of which negative ones count from the end, or a text such as `uniform` or `0,8,-1` that places
    all images of an encoder with the same text (`sparsectrl.key_frames.parse`). `image` is a picture in base64, also as
    a data URL, the path of one, or the digits by which a kept one is found. `encoder` names a SparseCtrl file; with
    none it is the only one there. `strength` is a number, or the text of a curve over the steps of sampling.
    """

    frame: str
    image: str
    encoder: str = ""
    strength: Value = 1.0

    @property
    def is_kept(self) -> bool:
        """Whether the image is named by its digits."""
        return names_kept_picture(self.image)

    def __str__(self) -> str:
        number = json.dumps(self.strength) if isinstance(self.strength, str) else short(self.strength)
        strength = "" if self.strength == 1 else f"={number}"
        bare = re.fullmatch(_BARE, self.encoder)
        encoder = self.encoder if bare or not self.encoder else json.dumps(self.encoder, ensure_ascii=False)
        return f"{self.frame}={self.image}{strength} {encoder}".rstrip()


@dataclass(frozen=True)
class KeyImages(Field):
    """Any number of key frames, as a tuple of `KeyFrame`; infotext has room for images that are kept.

    As text `0=0123456789abcdef=0.5 rgb; -1=...`, or JSON: a list of objects or lists with the parts of each.
    """

    metavar = "FRAME=IMAGE;..."

    @property
    def remedy(self) -> str:
        return (
            'give a list of {"frame": 0, "image": "base64, path or digits", "encoder": "file", "strength": 1}, '
            f"strength above 0, to {STRONGEST}, or a curve such as @0: 1, @0.5: 0"
        )

    def check(self, value: Any) -> Any:
        given: Any = _read(value) if isinstance(value, str) else value
        self._accept(value, isinstance(given, (tuple, list)))
        pairs = [(item, _key(item)) for item in given]
        return tuple(self._accept(item if key is None else key, key is not None) for item, key in pairs)

    def write(self, value: Any) -> str:
        return "; ".join(str(key) for key in value if key.is_kept)

    def format(self, value: Any) -> Any:
        return json.dumps([key._asdict() for key in value], ensure_ascii=False) if value else ""

    def with_curves(self, value: Any, change: Callable[[str], Any]) -> Any:
        return tuple(
            key._replace(strength=change(key.strength)) if isinstance(key.strength, str) else key for key in value
        )


def read_strength(text: str) -> Value:
    """The strength of a key frame that ``text`` spells. Raises MotionError for one out of range, or 0 everywhere."""
    strength = read_value(text, "key frame strength", 0, STRONGEST)
    if read_curve(strength).constant == 0:
        raise MotionError(f"key frame strength is {text}: give a number above 0, or leave the key frame out")
    return strength


def _key(item: Any) -> KeyFrame | None:
    """What `item` says, or None."""
    try:
        key = KeyFrame(**item) if isinstance(item, Mapping) else KeyFrame(*item)
    except TypeError:
        return None
    whole = isinstance(key.frame, int) and not isinstance(key.frame, bool)
    frame = str(key.frame) if whole else key.frame
    if not all(isinstance(text, str) and is_plain(text) for text in (frame, key.image, key.encoder)):
        return None
    strength = _strength(key.strength)
    if strength is None or not key.image or not _PLACES.fullmatch(frame):
        return None
    return key._replace(frame=frame, strength=strength)


def _strength(given: Any) -> Value | None:
    """A number or a curve; None for neither. Raises MotionError for a curve that makes no sense."""
    if isinstance(given, str) and is_plain(given):
        return read_strength(given)
    number = isinstance(given, (int, float)) and not isinstance(given, bool)
    return float(given) if number and 0 < given <= STRONGEST else None


def _read(text: str) -> Any:
    """The items of either spelling; None for another text."""
    try:
        return json.loads(text) if text.lstrip().startswith("[") else _items(text.strip().removesuffix(";"))
    except (ValueError, RecursionError):
        return None


def _items(text: str) -> list[KeyFrame] | None:
    items: list[KeyFrame] = []
    at = 0
    while at < len(text):
        match = _TEXT.match(text, at)
        if match is None:
            return None
        frame, image, strength, encoder = match.groups(default="")
        encoder = json.loads(encoder) if encoder.startswith('"') else encoder
        curve = strength.strip('"') if strength.startswith('"') else None
        items.append(KeyFrame(frame, image, encoder, curve or float(strength or 1)))
        at = match.end()
    return items


@dataclass(frozen=True)
class KeyFrames:
    """How strong a clip obeys its key frames, and when."""

    key_scale: float | str = setting(
        Varying, 1.0, "Key frame scale", "how closely the clip follows its key frames; or a curve", 0, 10, 0.05, 2,
        key="Motion key scale", group="keys", needs=("key_frames", "source_keys"),
    )  # fmt: skip
    key_start: float = setting(
        Number, 0.0, "Key frame start", "follows them from: 0 = first step, 1 = last", 0, 1, 0.01, 1,
        key="Motion key start", group="keys", needs=("key_frames", "source_keys"),
    )  # fmt: skip
    key_end: float = setting(
        Number, 1.0, "Key frame end", "follows them until: 0 = first step, 1 = last", 0, 1, 0.01, 1,
        key="Motion key end", group="keys", needs=("key_frames", "source_keys"),
    )  # fmt: skip
    on_keys: float = setting(
        Number, 1.0, "Scale on keys", "times the scale, at their own frames", 0, 10, 0.05, 2,
        key="Motion scale on keys", group="keys", needs=("key_frames", "source_keys"),
    )  # fmt: skip
    off_keys: float = setting(
        Number, 1.0, "Scale off keys", "times the scale, at all other frames", 0, 10, 0.05, 2,
        key="Motion scale off keys", group="keys", needs=("key_frames", "source_keys"),
    )  # fmt: skip
    key_mask: float = setting(
        Number, 1.0, "Key frame mask", "how surely the encoder takes key frames for given, times their strength",
        0.05, 10, 0.05, 2, key="Motion key mask", group="keys", needs=("key_frames", "source_keys"),
        detail="the value of the mask where a key frame is; the image keeps its own strength",
    )  # fmt: skip
    key_motion: float = setting(
        Number, 1.0, "Key frame motion", "strength of the encoder's own motion layers; 0 = each frame by itself",
        0, 10, 0.05, 2, key="Motion key motion", group="keys", needs=("key_frames", "source_keys"),
    )  # fmt: skip
    key_blocks: tuple[float, ...] = setting(
        Numbers, (), "Key frame blocks", "a factor for each block of the encoder, from fine to coarse; nothing = all 1",
        0, 10, False, key="Motion key blocks", group="keys", needs=("key_frames", "source_keys"),
        detail="13 numbers: 12 skip connections from the outside in, and the middle",
    )  # fmt: skip
    key_fit: str = setting(
        Choice, "crop", "Key image fit", "crop: fills the frame; pad: shows all, with bars", FITS,
        key="Motion key image fit", group="keys", needs=("key_frames", "source_keys"),
    )  # fmt: skip
    key_nearest: bool = setting(
        Flag, True, "Nearest key frame", "a window without a key frame is given the nearest one",
        key="Motion nearest key", group="keys", needs=("key_frames", "source_keys"),
    )  # fmt: skip
    colour_match: bool = setting(
        Flag, False, "Colour match", "gives key frames the colours of the frames beside them",
        key="Motion colour match", group="colours", needs=("key_frames", "source_keys"),
        detail="the published RGB encoder draws them lighter or darker",
    )  # fmt: skip

    def check_keys(self) -> None:
        """Raise MotionError if key frames end before they begin."""
        if self.key_start > self.key_end:
            raise MotionError(f"key start is {self.key_start:g}: give at most key end, {self.key_end:g}")
