"""The accordion: one component per row of the field table. Building it reads nothing but a list of file names."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import gradio as gr

from motion.errors import MotionError
from motion.fields import Choice, Field, Flag, Image, Number, Several
from motion.hosts.base import host, host_module, loaded_base
from motion.settings import TAB_FIELDS
from motion.webui import download_row, infotext, preset_row
from motion.webui.models import folders, library

GROUPS = ("main", "img2img", "advanced")
REFRESH = "\U0001f504"
NO_FILES = "No motion module found: put one into {folder} and press {button}."


@dataclass(frozen=True)
class Panel:
    """The components in the order of the field table, and the host's paste functions for them."""

    components: list[Any]
    infotext_fields: list[tuple[Any, Callable[..., Any]]]


def build(elem_id: Callable[[str], str], is_img2img: bool) -> Panel:
    """Build the accordion inside the host's page; `elem_id` names an element by its setting.

    In a host that lacks what Motion needs it holds one sentence.
    """
    try:
        host()
    except MotionError as error:
        with gr.Accordion("Motion", open=False):
            gr.HTML(alarm(error))
        return Panel([], [])
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
        preset_row.build(made, elem_id)
        arrived = download_row.build(elem_id)
    for trigger in (made["enabled"].change, refresh.click, arrived.change):
        trigger(offer, inputs=[made["module"]], outputs=[made["module"], problems], show_progress=False)
    return Panel([made[name] for name in TAB_FIELDS], [(made[name], read) for name, read in infotext.PASTED.items()])


def component(row: Field, elem_id: Callable[[str], str]) -> Any:
    """The component that shows a row of the field table."""
    common = {"label": row.label, "info": row.help, "elem_id": elem_id(row.name)}
    if isinstance(row, Number) and row.step:
        return gr.Slider(row.low, row.reach, row.default, step=row.step, **common)
    if isinstance(row, Choice):
        return gr.Radio(_labelled(row.choices), value=row.default, **common)
    if isinstance(row, Several):
        return gr.CheckboxGroup(_labelled(row.choices), value=list(row.default), **common)
    if isinstance(row, Image):
        return gr.Image(type="pil", label=row.label, elem_id=elem_id(row.name))
    if isinstance(row, Flag):
        return gr.Checkbox(row.default, **common)
    return gr.Textbox(row.default, **common)


def offer(chosen: str) -> tuple[Any, str]:
    """The modules that fit the loaded checkpoint, and a line for each that does not."""
    try:
        base, files = loaded_base(), library()
    except MotionError as error:
        return gr.update(choices=[]), alarm(error)
    misfits = {entry.name: files.misfit(files.describe(entry), base) for entry in files.entries()}
    fitting = [name for name, reason in misfits.items() if reason is None]
    lines = [f"{name}: {reason}" for name, reason in misfits.items() if reason is not None]
    if not misfits:
        lines = [NO_FILES.format(folder=folders()[0], button=REFRESH)]
    text = "".join(f"<p style='opacity: 0.6'>{html.escape(line)}</p>" for line in lines)
    return gr.update(choices=fitting, value=chosen if chosen in fitting else next(iter(fitting), "")), text


def alarm(reason: MotionError) -> str:
    """Why nothing can be done here, in red."""
    return f"<p class='error' style='color: var(--error-text-color, red)'>{html.escape(str(reason))}</p>"


def _modules(row: Field, elem_id: Callable[[str], str]) -> Any:
    names = [entry.name for entry in library().entries()]
    return gr.Dropdown(
        names, value=next(iter(names), ""), label=row.label, info=row.help, elem_id=elem_id(row.name),
        allow_custom_value=True,
    )  # fmt: skip


def _labelled(choices: Any) -> list[tuple[str, str]]:
    return [(label, name) for name, label in choices.items()]


def _frame(group: str, is_img2img: bool) -> Any:
    if group == "advanced":
        return gr.Accordion("Advanced", open=False)
    return gr.Group(visible=group != "img2img" or is_img2img)
