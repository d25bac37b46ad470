"""The component for each kind of row of the field table."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gradio as gr

from motion.extension import options
from motion.extension.models import FILES
from motion.extension.page import curve_row, strip
from motion.fields.table import Choice, Field, Flag, Image, Number, Several
from motion.fields.varying import Varying
from motion.fields.weighted import Weights
from motion.hosts.webui.backends.base import option
from motion.settings.key_frames import KeyImages

FEW = 3
"""As many choices are buttons; more are a list to open."""


def component(row: Field, elem_id: Callable[[str], str]) -> Any:
    """The component that shows a row of the field table; what depends on another row is not in sight at first."""
    common = {"label": row.label, "elem_id": elem_id(row.name), "visible": not row.needs}
    if isinstance(row, Image):
        return gr.Image(type="pil", **common)
    common["info"] = row.help
    if isinstance(row, Varying):
        return curve_row.build(row, common)
    if isinstance(row, Number) and row.step:
        lowest = math.ceil(row.low / row.step) * row.step
        return gr.Slider(lowest, row.reach, row.default, step=row.step, **common)
    if isinstance(row, (Choice, Several)):
        return _choices(row, common)
    if isinstance(row, KeyImages):
        gr.HTML(strip.frame(elem_id(row.name), elem_id("frames")), elem_id=elem_id("key_strip"))
    if isinstance(row, Flag):
        return gr.Checkbox(row.default, **common)
    if row.name in FILES and not isinstance(row, Weights):
        return gr.Dropdown([row.default], value=row.default, allow_custom_value=True, **common)
    return gr.Textbox(row.format(row.default), **common)


def _choices(row: Choice | Several, common: dict[str, Any]) -> Any:
    """Buttons or a list of the labels; hosts keep only plain ones as defaults, and of several only lists'."""
    labels, value = list(row.choices.values()), row.format(row.default)
    if isinstance(row, Several):
        return _several(row, labels, value, common)
    return gr.Radio(labels, value=value, **common) if len(labels) <= FEW else gr.Dropdown(labels, value=value, **common)


def _several(row: Several, labels: list[str], value: list[str], common: dict[str, Any]) -> Any:
    """A list of which several may be chosen; of formats those that the user has set first."""
    wanted = option(options.FORMATS_SETTING, value) if row.name == "formats" else value
    made = gr.Dropdown(labels, value=[label for label in wanted if label in labels], multiselect=True, **common)
    made.do_not_save_to_config = wanted != value  # else what was saved as a default would hide it
    return made
