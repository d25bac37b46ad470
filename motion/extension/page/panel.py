"""The accordion: one component per row of the field table. Building it reads nothing but a list of file names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

import gradio as gr

from motion.errors import MotionError
from motion.extension import infotext
from motion.extension.models import FILES, library
from motion.extension.page import download_row, preset_row, strip, windows_row
from motion.extension.page.notes import alarm
from motion.extension.page.offer import REFRESH, notes, offer
from motion.fields.table import Choice, Field, Flag, Image, Number, Several
from motion.fields.weighted import Weighted, Weights
from motion.hosts.webui.base import host_module
from motion.hosts.webui.detect import host
from motion.settings.key_frames import KeyImages
from motion.settings.tab import TAB_FIELDS

GROUPS = ("main", "lora", "keys", "img2img", "advanced")
FOLDED = {"lora": "Motion LoRA and domain adapter", "keys": "Key frames (SparseCtrl)", "advanced": "Advanced"}


@dataclass(frozen=True)
class Panel:
    """The components in the order of the field table, and the host's paste functions for them.

    `follow_steps` is told the host's component for sampling steps, when that is there.
    """

    components: list[Any] = field(default_factory=list)
    infotext_fields: list[tuple[Any, Callable[..., Any]]] = field(default_factory=list)
    follow_steps: Callable[[Any], None] = lambda steps: None


def build(elem_id: Callable[[str], str], is_img2img: bool) -> Panel:
    """Build the accordion inside the host's page; `elem_id` names an element by its setting.

    In a host that lacks what Motion needs it holds one sentence.
    """
    try:
        host()
    except MotionError as error:
        with gr.Accordion("Motion", open=False):
            gr.HTML(alarm(error))
            off = gr.Checkbox(False, visible=False)  # where requests to the API put their settings, to be refused
        return Panel([off])
    ui_components = host_module("ui_components")
    made: dict[str, Any] = {}
    made["enabled"] = ui_components.InputAccordion(False, label="Motion", elem_id=elem_id("enabled"))
    with made["enabled"]:
        with gr.Row(elem_id=elem_id("files")):
            made["module"] = _modules(TAB_FIELDS["module"], elem_id)
            refresh = ui_components.ToolButton(REFRESH, elem_id=elem_id("refresh"), tooltip="Look for files again")
        problems = gr.HTML(elem_id=elem_id("problems"))
        for group in GROUPS:
            rows = [row for row in TAB_FIELDS.values() if row.group == group and row.name not in made]
            with _frame(group, is_img2img):
                for _, alike in groupby(rows, key=type):
                    with gr.Row():
                        made |= {row.name: component(row, elem_id) for row in alike}
                if group == "lora":
                    chooser = _chooser(made["loras"], elem_id)
                if group == "advanced":
                    windows = windows_row.build(elem_id)
        preset_row.build(made, elem_id)
        downloaded = download_row.build(elem_id)
    for trigger in (made["enabled"].change, refresh.click, downloaded.then):
        trigger(
            offer,
            inputs=[made["module"], made["adapter"]],
            outputs=[made["module"], problems, made["adapter"], chooser],
            show_progress=False,
        )
    for name in ("module", "adapter"):
        made[name].change(notes, inputs=[made["module"], made["adapter"]], outputs=[problems], show_progress=False)
    pasted = [(made[name], read) for name, read in infotext.PASTED.items()]
    return Panel([made[name] for name in TAB_FIELDS], pasted, partial(windows_row.follow, windows, made))


def component(row: Field, elem_id: Callable[[str], str]) -> Any:
    """The component that shows a row of the field table."""
    common = {"label": row.label, "info": row.help, "elem_id": elem_id(row.name)}
    if isinstance(row, Number) and row.step:
        return gr.Slider(row.low, row.reach, row.default, step=row.step, **common)
    if isinstance(row, Choice):
        return gr.Radio(_labelled(row.choices), value=row.default, **common)
    if isinstance(row, Several):
        return gr.CheckboxGroup(_labelled(row.choices), value=list(row.default), **common)
    if isinstance(row, KeyImages):
        gr.HTML(strip.frame(elem_id(row.name), elem_id("frames")), elem_id=elem_id("key_strip"))
    if isinstance(row, Image):
        return gr.Image(type="pil", label=row.label, elem_id=elem_id(row.name))
    if isinstance(row, Flag):
        return gr.Checkbox(row.default, **common)
    if row.name in FILES and not isinstance(row, Weights):
        return gr.Dropdown([row.default], value=row.default, allow_custom_value=True, **common)
    return gr.Textbox(row.format(row.default), **common)


def _modules(row: Field, elem_id: Callable[[str], str]) -> Any:
    names = [entry.name for entry in library().entries()]
    return gr.Dropdown(
        names, value=next(iter(names), ""), label=row.label, info=row.help, elem_id=elem_id(row.name),
        allow_custom_value=True,
    )  # fmt: skip


def _chooser(loras: Any, elem_id: Callable[[str], str]) -> Any:
    """The list of motion LoRAs, from which the one that is chosen goes into the text."""

    def add(name: str, text: str) -> tuple[str, Any]:
        known = text.strip().rstrip(",")
        return (f"{known}, {Weighted(name)}" if known else str(Weighted(name))), gr.update(value=None)

    chooser = gr.Dropdown([], label="Add a motion LoRA", elem_id=elem_id("lora_chooser"))
    chooser.select(add, inputs=[chooser, loras], outputs=[loras, chooser], show_progress=False)
    return chooser


def _labelled(choices: Any) -> list[tuple[str, str]]:
    return [(label, name) for name, label in choices.items()]


def _frame(group: str, is_img2img: bool) -> Any:
    if group in FOLDED:
        return gr.Accordion(FOLDED[group], open=False)
    return gr.Group(visible=group != "img2img" or is_img2img)
