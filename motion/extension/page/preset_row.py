"""The row of the accordion in which presets are chosen, kept and dropped."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from motion.errors import MotionError
from motion.extension.page.notes import note
from motion.hosts.webui.backends.base import host_module
from motion.settings.presets import KEPT, Presets
from motion.settings.tab import TAB_FIELDS, Tab

LOAD, SAVE, DELETE = "\u2199\ufe0f", "\U0001f4be", "\U0001f5d1\ufe0f"
DELETED = "Delete the preset {name!r}? It cannot be brought back."


def presets() -> Presets:
    """The user's, in the host's data folder."""
    return Presets(Path(host_module("paths").data_path) / "motion-presets.json")


class PresetRow:
    """A list that also takes a new name, and the buttons that load, keep and delete."""

    def __init__(self, elem_id: Callable[[str], str]) -> None:
        button, names = host_module("ui_components").ToolButton, _names()
        with gr.Row(elem_id=elem_id("presets")):
            self.name = gr.Dropdown(
                names, value=None, label="Preset", info="choose one to load, or type a name to save under",
                allow_custom_value=True, elem_id=elem_id("preset"),
            )  # fmt: skip
            self.name.do_not_save_to_config = True
            self.load = button(LOAD, elem_id=elem_id("preset_load"), tooltip="Load the preset of this name")
            self.save = button(SAVE, elem_id=elem_id("preset_save"), tooltip="Keep the settings under this name")
            self.delete = button(DELETE, elem_id=elem_id("preset_delete"), tooltip="Delete the preset of this name")
        self.choosing = self.name.select, self.load.click
        self.listed = gr.HTML(_told(names), visible=False, elem_id=elem_id("preset_names"))
        with gr.Row(visible=False, elem_id=elem_id("preset_question")) as self.question:
            self.asked = gr.HTML()
            self.yes = gr.Button("Delete", elem_id=elem_id("preset_yes"))
            self.no = gr.Button("Keep", elem_id=elem_id("preset_no"))

    def follow(self, made: Mapping[str, Any]) -> None:
        """Load, keep and delete; `made` are the components by field name."""
        kept, name, asked = [made[name] for name in KEPT], [self.name], [self.question, self.asked]
        listed = [self.name, self.listed]
        for chosen in self.choosing:
            chosen(_chosen, inputs=name, outputs=kept, show_progress=False)
        made["enabled"].change(_relisted, inputs=listed, outputs=listed, show_progress=False)
        self.name.focus(_opened, inputs=[self.listed], outputs=listed, show_progress=False)
        self.save.click(_saved, inputs=[self.name, *kept], outputs=listed, show_progress=False)
        self.delete.click(_ask, inputs=name, outputs=asked, show_progress=False)
        self.yes.click(_deleted, inputs=name, outputs=[*listed, self.question], show_progress=False)
        self.no.click(lambda: gr.update(visible=False), outputs=[self.question], show_progress=False)


def _names() -> list[str]:
    try:
        return presets().names()
    except MotionError:
        return []  # why is said as soon as one is chosen or kept


def _chosen(name: str | None) -> list[Any]:
    try:
        values = presets().get(name or "")
    except MotionError as error:
        gr.Warning(str(error))
        values = {}
    return [TAB_FIELDS[field].format(values[field]) if field in values else gr.update() for field in KEPT]


def _listed(name: str | None) -> tuple[Any, str]:
    names = _names()
    return gr.update(choices=names, value=name or None), _told(names)  # told no value, gradio 4 shows the first


def _relisted(name: str | None, told: str) -> tuple[Any, Any]:
    """`_listed` where the page was told other names; but a late answer takes back what is chosen meanwhile, so without
    the value where gradio leaves that as it is."""
    as_it_is = _told(_names()) == told or gr.__version__.startswith("3.")
    return _opened(told) if as_it_is else _listed(name)


def _opened(told: str) -> tuple[Any, Any]:
    """What has changed since the page was told of its names: told them again, gradio 4 shows those alone that hold
    what is typed. Never the value: meanwhile another may have been typed."""
    names = _names()
    return (gr.update(), gr.update()) if _told(names) == told else (gr.update(choices=names), _told(names))


def _told(names: Sequence[str]) -> str:
    """What `javascript/motion.js` sees when there are other names: gradio 3 leaves a list that is open as it was."""
    return f"<span data-motion-presets='{html.escape('; '.join(names))}'></span>"


def _saved(name: str | None, *values: Any) -> tuple[Any, str]:
    try:
        presets().put(name or "", Tab(**dict(zip(KEPT, values, strict=True))))
    except MotionError as error:
        gr.Warning(str(error))
    return _listed(name)


def _ask(name: str | None) -> tuple[Any, str]:
    return gr.update(visible=bool(name)), note(DELETED.format(name=name))


def _deleted(name: str | None) -> tuple[Any, str, Any]:
    try:
        presets().drop(name or "")
    except MotionError as error:
        gr.Warning(str(error))
    return *_listed(None), gr.update(visible=False)
