"""A number that may be a curve: a field to type into, and under it the curve, drawn as it is typed."""

from __future__ import annotations

import html
from collections.abc import Mapping
from functools import partial
from typing import Any

import gradio as gr

from motion.errors import MotionError
from motion.extension.page.curve_picture import drawing
from motion.extension.page.notes import alarm
from motion.fields.curve_text import read_curve
from motion.fields.varying import Varying
from motion.settings.tab import TAB_FIELDS


def build(row: Varying, common: Mapping[str, Any]) -> Any:
    """Draw both; the picture is the field's `curve_picture`."""
    with gr.Column(min_width=160):
        box: Any = gr.Textbox(row.format(row.default), **common)
        box.curve_picture = gr.HTML(elem_id=f"{common['elem_id']}_curve")
    return box


def follow(made: Mapping[str, Any]) -> None:
    """Draw each curve anew when it changes, or the length of the clip."""
    for row in TAB_FIELDS.values():
        if isinstance(row, Varying):
            box = made[row.name]
            for changing in (box, made["frames"]):
                inputs = [box, made["frames"]]
                changing.change(partial(picture, row), inputs=inputs, outputs=box.curve_picture, show_progress=False)


def picture(row: Varying, text: str, frames: Any) -> str:
    """The curve of a text in a clip of ``frames``, or what is wrong with it; nothing for a number."""
    try:
        value = row.check(text or row.default)
        if not isinstance(value, str):
            return ""
        curve = read_curve(value)
        if curve.sounds:
            return html.escape(f"the loudness of {', '.join(sound.file for sound in curve.sounds)}")
        return drawing(curve, int(frames or 1))
    except MotionError as error:
        return alarm(error)
