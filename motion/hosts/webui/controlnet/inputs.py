"""What ControlNet's units are shown on a clip: a folder with a picture for each frame, and how strongly each counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from PIL import Image
from torch import Tensor

from motion.errors import MotionError
from motion.fields.curve_text import read_curve
from motion.fields.varying import read_value
from motion.fields.weighted import read_number
from motion.hosts.controls import Pixels
from motion.video.files import is_clip_file, stills
from motion.video.read import ClipReader, open_clip
from sparsectrl.key_frames import parse

T = TypeVar("T")
KEY_FRAMES, STRENGTHS = "keyframe", "strength"
"""What lines below the folder of a batch input may begin with; the first as sd-webui-animatediff has it."""
STRONGEST = 2
WHAT = "a strength of ControlNet"
Strengths = Sequence[float]
"""Of each frame that is drawn; they multiply the unit's weight."""


@dataclass(frozen=True)
class Clip:
    """A clip of which ``kept`` frames stay of those that are ``drawn``, and what units without a picture of their own
    are shown in these, if they are to be; a ``closed`` one leads around."""

    drawn: int
    kept: int
    source: Callable[[], Iterable[Pixels]] | None = None
    closed: bool = False


@dataclass(frozen=True)
class Shown:
    """The folder of a unit, and its strengths by frame where they are not all the same."""

    folder: Path
    strengths: Strengths | None = None
    mixed: Tensor | None = None
    """Of an IP-Adapter how much of each picture each frame is given, ``[drawn, pictures]``."""


def read_input(given: Any, clip: Clip, undo: ExitStack, mix: Callable[[Sequence[int]], Tensor] | None = None) -> Shown:
    """What a batch input means: a folder or a clip, and below it lines `keyframe:0,8,-1` and `strength:1,0.5`.

    Fewer pictures than frames: the last one stays; more: the rest is left out. With key frames there are as many, and
    the unit does nothing at other frames. Strengths are of key frames or else of frames, where the last one stays, or a
    curve over frames.
    Of an IP-Adapter ``mix`` says how much of the pictures at some frames each frame is given: it acts between key
    frames too, as strongly as these do, mixed.
    The folder is removed when ``undo`` is closed. Raises MotionError for what is not there, and for lines that mean
    something else.
    """
    first, *others = str(given).strip().splitlines() or [""]
    lines = dict(_line(other) for other in others if other.strip())
    source = Path(first.strip())
    if (source.is_dir() and not stills(source)) or (not source.is_dir() and not is_clip_file(source)):
        raise MotionError(f"ControlNet's batch input {source} holds no images: give a folder of images or a video")
    pictures = open_clip(source)
    if mix is not None:
        return _mixed(pictures, lines, clip, undo, mix)
    if KEY_FRAMES not in lines:
        found = fitted(list(pictures.frames(stop=clip.drawn)), clip.drawn)
        return Shown(write_pictures(found, undo), _by_frame(lines.get(STRENGTHS), clip))
    keys = parse(lines[KEY_FRAMES], clip.kept, pictures.count())
    by_frame = dict(zip(keys, _by_key(lines.get(STRENGTHS, "1"), keys, clip), strict=True))
    by_key = dict(zip(keys, pictures.frames(), strict=True))
    nearest = (min(keys, key=lambda key: abs(key - frame)) for frame in range(clip.drawn))
    folder = write_pictures((by_key[key] for key in nearest), undo)
    return Shown(folder, [by_frame.get(frame, 0.0) for frame in range(clip.drawn)])


def _mixed(
    pictures: ClipReader, lines: Mapping[str, str], clip: Clip, undo: ExitStack, mix: Callable[[Sequence[int]], Tensor]
) -> Shown:
    given = lines.get(STRENGTHS)
    if KEY_FRAMES not in lines:
        keys = list(range(min(pictures.count(), clip.kept)))
        strengths = _by_frame(given, clip)
    else:
        keys = parse(lines[KEY_FRAMES], clip.kept, pictures.count())
        strengths = _by_frame(given, clip) if given is not None and _is_curve(given) else None
    mixed = mix(keys)
    if given is not None and strengths is None:
        strengths = (mixed @ mixed.new_tensor(_by_key(given, keys, clip))).tolist()
    return Shown(write_pictures(pictures.frames(stop=len(keys)), undo), strengths, mixed)


def write_pictures(pictures: Iterable[Pixels], undo: ExitStack) -> Path:
    """A folder with these pictures in the order of their names; it is removed when ``undo`` is closed."""
    folder = Path(undo.enter_context(TemporaryDirectory(prefix="motion-hints-")))
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{number:05}.png")
    return folder


def fitted(items: Sequence[T], count: int) -> list[T]:
    """As many: the last one stays, or the rest is left out."""
    return [*items[:count], *[items[-1]] * (count - len(items))]


def _line(text: str) -> tuple[str, str]:
    name, _, value = text.strip().partition(":")
    if name not in (KEY_FRAMES, STRENGTHS) or not value.strip():
        raise MotionError(
            f"ControlNet's batch input has a line {text.strip()!r} besides its folder, which means nothing here: give "
            f"{KEY_FRAMES}:0,8,-1 or {STRENGTHS}:1,0.5"
        )
    return name, value.strip()


def _by_frame(text: str | None, clip: Clip) -> Strengths | None:
    if text is None:
        return None
    if _is_curve(text):
        return fitted(_along(text, clip), clip.drawn)
    strengths = _numbers(text)
    if len(strengths) > clip.kept:
        raise MotionError(f"ControlNet has {len(strengths)} strengths for {clip.kept} frames: give one for each")
    return fitted(strengths, clip.drawn)


def _by_key(text: str, keys: Sequence[int], clip: Clip) -> Strengths:
    if _is_curve(text):
        along = _along(text, clip)
        return [along[key] for key in keys]
    strengths = _numbers(text)
    if len(strengths) not in (1, len(keys)):
        raise MotionError(f"ControlNet has {len(strengths)} strengths for {len(keys)} key frames: give one for each")
    return fitted(strengths, len(keys))


def _is_curve(text: str) -> bool:
    return not set(text).isdisjoint(":*(")


def _along(text: str, clip: Clip) -> list[float]:
    """The strength of each frame of the clip."""
    curve = read_curve(read_value(text, WHAT, 0, STRONGEST))
    if curve.over_steps or curve.sounds:
        raise MotionError(f"{WHAT} is {text!r:.80}: give a curve over frames alone, such as 0: 1, -1: 0.4")
    return curve.at(clip.kept)


def _numbers(text: str) -> list[float]:
    return [read_number(part.strip(), 0, STRONGEST, WHAT) for part in text.split(",")]
