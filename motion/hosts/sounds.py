"""Curves that follow a sound: in every host they are numbers before a clip is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from motion.errors import MotionError
from motion.fields.curve import Curve, Loudness
from motion.fields.curve_text import hertz, read_curve
from motion.fields.table import Field
from motion.fields.varying import Varying
from motion.video.sound import loudness

T = TypeVar("T", bound=Any)


def settle_sounds(settings: T, rows: Mapping[str, Field], find: Callable[[str], Path] = Path) -> T:
    """The settings of a clip with the loudness of sounds as keys of their curves; themselves where there is none.

    ``find`` is the file of a name. Raises MotionError for one that holds no sound.
    """

    def hear(sound: Loudness) -> list[float]:
        return loudness(find(sound.file), hertz(sound.band), settings.frames, settings.fps)

    curves = {name: value for name, value in _curves(settings, rows).items() if value.sounds}
    heard: T = replace(settings, **{name: str(curve.heard(hear)) for name, curve in curves.items()})
    return heard if curves else settings


def _curves(settings: Any, rows: Mapping[str, Field]) -> dict[str, Curve]:
    values = {name: getattr(settings, name) for name, row in rows.items() if isinstance(row, Varying)}
    return {name: read_curve(value) for name, value in values.items()}


def only_in(allowed: Callable[[str], Path | None], folder: Path) -> Callable[[str], Path]:
    """A ``find`` that follows names into folders that are ``allowed`` alone, such as ``folder``."""

    def find(name: str) -> Path:
        file = allowed(name)
        if file is None:
            raise MotionError(f"the sound {name:.80} cannot be read from there: give its whole path in {folder}")
        return file

    return find
