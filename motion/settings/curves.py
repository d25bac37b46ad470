"""Clips some of whose settings are curves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from motion.fields.curve import Value
from motion.fields.curve_text import read_curve
from motion.settings.settings import FIELDS, Clip


def still_of(clip: Clip) -> Clip:
    """The clip's first frame, a picture of its own."""
    first: dict[str, Any] = {
        name: row.check(row.with_curves(getattr(clip, name), lambda text: value_of_first(text, clip.frames)))
        for name, row in FIELDS.items()
    }
    return replace(clip, **{**first, "frames": 1, "zero_shot": False, "cross_frame": "none"})


def value_of_first(value: Value, frames: int) -> Value:
    """A number, or as the first of ``frames`` goes through the steps."""
    return str(read_curve(value).of_first(frames)) if isinstance(value, str) else value
