"""Curves that follow a sound: in every host they are numbers before a clip is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from motion.errors import MotionError
from motion.fields.curve import Loudness, Value
from motion.fields.curve_text import hertz, read_curve
from motion.fields.table import Field
from motion.video.sound import loudness

T = TypeVar("T", bound=Any)


def settle_sounds(settings: T, rows: Mapping[str, Field], find: Callable[[str], Path] = Path) -> T:
    """The settings of a clip with the loudness of sounds as keys of their curves; themselves where there is none.

    ``find`` is the file of a name. Raises MotionError for one that holds no sound.
    """
    given = {name: getattr(settings, name) for name in rows}
    heard = {
        name: row.with_curves(given[name], lambda text: settle_curve(text, settings.frames, settings.fps, find))
        for name, row in rows.items()
    }
    changed = {name: value for name, value in heard.items() if value != given[name]}
    settled: T = replace(settings, **changed)
    return settled if changed else settings


def settle_curve(value: Value, frames: int, fps: float, find: Callable[[str], Path] = Path) -> Value:
    """A value of a clip of ``frames`` with the loudness of sounds as keys of its curve, if it is one."""

    def hear(sound: Loudness) -> list[float]:
        return loudness(find(sound.file), hertz(sound.band), frames, fps)

    curve = read_curve(value)
    return str(curve.heard(hear)) if curve.sounds else value


def only_in(allowed: Callable[[str], Path | None], folder: Path) -> Callable[[str], Path]:
    """A ``find`` that follows names into folders that are ``allowed`` alone, such as ``folder``."""

    def find(name: str) -> Path:
        file = allowed(name)
        if file is None:
            raise MotionError(f"the sound {name:.80} cannot be read from there: give its whole path in {folder}")
        return file

    return find
