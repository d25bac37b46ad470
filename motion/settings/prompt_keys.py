"""Which lines of a prompt are key frames, by one rule.

    a photo of a forest,
    0: spring,
    with many flowers
    12-20: summer
    -1: winter
    best quality

A key line is ``frame: text``. Its frame is a whole number or a range of two; a negative one counts from the end. A
digit right behind the colon makes the line text (``16:9``, ``12:30``). A prompt travels if a key line names a frame of
the clip. Then every key line is one, and what is not in the clip is refused. Lines above the first key line stand in
front of every key frame's text, those below the last one behind it; a line between two belongs to the one above it.

Maps are key lines, too: ``"0": "spring",`` as FizzNodes and animatediff-cli-prompt-travel write them, by itself, and
``0 = "spring"`` as ComfyUI-AnimateDiff-Evolved does; in braces or without, an entry in each line or all in one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from motion.errors import MotionError
from motion.fields.table import is_plain

INVISIBLE = "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
"""Characters without width that come along with pasted text, a byte order mark among them."""
DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212\uff0d"
"""What text processors make of a minus sign."""
_SIGNS = str.maketrans({**dict.fromkeys(DASHES, "-"), "\uff0b": "+"})

_EDGES = INVISIBLE + "".join(filter(str.isspace, map(chr, range(0x3001))))
_SPACE = rf"[\s{INVISIBLE}]{{0,9}}"
"""Bounded, because several of them follow each other: a line of spaces is not to take long."""
_NUMBER = rf"[{DASHES}+\uff0b]?\d+(?:\.\d*)?"
_FRAMES = rf"(?P<first>{_NUMBER})(?:{_SPACE}[{DASHES}]{_SPACE}(?P<last>{_NUMBER}))?"
_KEY = rf"(?P<mark>[\"']?){_SPACE}{_FRAMES}{_SPACE}(?P=mark){_SPACE}"
_STRING = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'"

_LINE = re.compile(rf"{_KEY}[:\uff1a](?!\d)(?P<text>.*)")
_ENTRY = re.compile(rf"{_KEY}[:=\uff1a]{_SPACE}(?P<text>{_STRING}){_SPACE}(?:,{_SPACE}|$)")
_NAME = r"[\"']?[^\W\d]\w*[\"']?"
_OPENED = re.compile(rf"\A(?:{_NAME}{_SPACE}[:=]{_SPACE})?\{{{_SPACE}")
_INSIDE = re.compile(rf"(?P<quote>[\"']){_NUMBER}{_SPACE}(?P=quote){_SPACE}:{_SPACE}[\"']")
_SPREAD = re.compile(rf"(?P<quote>[\"']){_NUMBER}{_SPACE}(?P=quote){_SPACE}:{_SPACE}(?:{_STRING})", re.DOTALL)
"""An entry over several lines."""


class KeyLine(NamedTuple):
    """A key line: its frames as they are written, its text and the lines below it up to the next one."""

    first: str
    last: str
    lines: list[str]
    mapped: bool
    """Whether its frames stand in quotation marks, as those of a map do."""
    damaged: bool = False
    """Whether its text begins with a quotation mark and goes on otherwise."""


def key_frames(prompt: str, frames: int) -> dict[int, str]:
    """The whole text of each key frame, by frame number; empty if the prompt does not travel over ``frames`` frames.

    A range has two of them, its first frame and its last one. Where the end of a range begins the next line, that
    line's text holds. Raises MotionError for frames that are not in the clip, ranges that go backwards, frames with two
    texts and damaged maps.
    """
    head, lines = _parsed(prompt)
    travelling = _travel(lines, frames)
    _check_map(head, lines, travelling)
    if not travelling:
        return {}
    tail = lines[-1].lines[1:]
    del lines[-1].lines[1:]
    starts: dict[int, str] = {}
    ends: dict[int, str] = {}
    for line in lines:
        first, last = _frame(line.first, frames), _frame(line.last, frames)
        if last < first:
            raise MotionError(f"the prompt's frames {line.first} to {line.last} go backwards: give the first one first")
        _tell(starts, first, _joined(line.lines))
        if first < last:
            _tell(ends, last, _joined(line.lines))
    return {frame: _joined([*head, text, *tail]) for frame, text in {**ends, **starts}.items()}


def travels(prompt: str, frames: int) -> bool:
    """Whether a key line of the prompt names one of ``frames`` frames."""
    return _travel(_parsed(prompt)[1], frames)


def _travel(lines: Sequence[KeyLine], frames: int) -> bool:
    return any(_place(name, frames) is not None for line in lines for name in (line.first, line.last))


def _parsed(prompt: str) -> tuple[list[str], list[KeyLine]]:
    """The lines above the first key line, and the key lines, entries of maps one by one and without their braces."""
    head: list[str] = []
    keys: list[KeyLine] = []
    for line in _SPREAD.sub(lambda found: " ".join(found[0].splitlines()), prompt).splitlines():
        found = _key_lines(line)
        if found is None:
            (keys[-1].lines if keys else head).append(line)
        else:
            keys += found
    return head, keys


def _key_lines(line: str) -> list[KeyLine] | None:
    """What the line has of key lines: one, or the entries of a map, of which a brace alone has none. None for text."""
    bare = line.strip(_EDGES)
    text = _OPENED.sub("", bare, count=1).rstrip(_EDGES + ",}")
    entries, at = [], 0
    while at < len(text):
        match = _ENTRY.match(text, at)
        if match is None:
            break
        entries.append(_key_line(match, _unquoted(match["text"])))
        at = match.end()
    else:
        return entries
    match = _LINE.fullmatch(bare)
    if match is None:
        return None
    return [_key_line(match, match["text"], bool(match["mark"]) and match["text"].lstrip()[:1] in ('"', "'"))]


def _key_line(match: re.Match[str], text: str, damaged: bool = False) -> KeyLine:
    return KeyLine(match["first"], match["last"] or match["first"], [text], bool(match["mark"]), damaged)


def _unquoted(text: str) -> str:
    """What a string of JSON or of Python says; prompts escape brackets, which neither does."""
    try:
        said = str(json.loads(text))
    except ValueError:
        said = ""
    return said if said and is_plain(said) else re.sub(r"\\([\"'\\])", r"\1", text[1:-1])


def _check_map(head: Sequence[str], lines: Sequence[KeyLine], travelling: bool) -> None:
    """Raise MotionError for what no tool that writes maps would tell any frame: in a prompt that travels text beside
    the entries and strings without an end, in any prompt entries in the middle of a line."""
    texts = [text for text in (*head, *(text for line in lines for text in line.lines[1:])) if text.strip()]
    if not (travelling and any(line.mapped for line in lines)):
        texts = list(filter(_INSIDE.search, texts))
    for text in [line.lines[0] for line in lines if line.damaged and travelling] + texts:
        raise MotionError(
            f'the prompt has {text.strip()[:60]} in a map of frames: give entries such as "0": "text" and nothing '
            "else, or lines such as 0: text with what all frames are told above or below"
        )


def _place(name: str, frames: int) -> int | None:
    """The frame of the clip that ``name`` means; None if there is no such frame."""
    number = Decimal(name.translate(_SIGNS))
    inside = -frames <= number < frames and number == int(number)
    return int(number) % frames if inside else None


def _frame(name: str, frames: int) -> int:
    place = _place(name, frames)
    if place is None:
        raise MotionError(
            f"the prompt has a key frame {name[:40]}: the clip's are 0 to {frames - 1}, or -{frames} to -1"
        )
    return place


def _tell(told: dict[int, str], frame: int, text: str) -> None:
    if told.setdefault(frame, text) != text:
        raise MotionError(
            f"the prompt tells frame {frame} two texts, {told[frame][:40]!r} and {text[:40]!r}: give it one of them"
        )


def _joined(lines: Sequence[str]) -> str:
    texts = (line.strip(_EDGES + ",") for line in lines)
    return ", ".join(text for text in texts if text)
