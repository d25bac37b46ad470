"""Clips some of whose settings are curves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from motion.fields.curve_text import read_curve
from motion.fields.varying import Varying
from motion.settings.settings import FIELDS, Clip


def still_of(clip: Clip) -> Clip:
    """The clip's first frame, a picture of its own."""
    first: dict[str, Any] = {
        name: FIELDS[name].check(str(read_curve(value).of_first(clip.frames)))
        for name, value in vars(clip).items()
        if isinstance(FIELDS[name], Varying) and isinstance(value, str)
    }
    return replace(clip, frames=1, zero_shot=False, cross_frame="none", **first)
