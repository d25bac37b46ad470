"""The row of the accordion in which presets are chosen, kept and dropped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from motion.errors import MotionError
from motion.hosts.webui.base import host_module
from motion.settings.presets import KEPT, Presets
from motion.settings.tab import TAB_FIELDS, Tab

SAVE, DELETE = "\U0001f4be", "\U0001f5d1\ufe0f"


def presets() -> Presets:
    """The user's, in the host's data folder."""
    return Presets(Path(host_module("paths").data_path) / "motion-presets.json")


class PresetRow:
    """A list that also takes a new name, and the buttons that keep and delete."""

    def __init__(self, elem_id: Callable[[str], str]) -> None:
        button = host_module("ui_components").ToolButton
        with gr.Row(elem_id=elem_id("presets")):
            self.name = gr.Dropdown(
                _names(), value="", label="Preset", info="choose one, or type a name and keep the settings under it",
                allow_custom_value=True, elem_id=elem_id("preset"),
            )  # fmt: skip
            self.save = button(SAVE, elem_id=elem_id("preset_save"), tooltip="Keep the settings under this name")
            self.delete = button(DELETE, elem_id=elem_id("preset_delete"), tooltip="Delete the preset of this name")

    def follow(self, made: Mapping[str, Any]) -> None:
        """Load, keep and delete; `made` are the components by field name."""
        kept = [made[name] for name in KEPT]
        self.name.select(_chosen, inputs=[self.name], outputs=kept, show_progress=False)
        self.save.click(_saved, inputs=[self.name, *kept], outputs=[self.name], show_progress=False)
        self.delete.click(_deleted, inputs=[self.name], outputs=[self.name], show_progress=False)


def _names() -> list[str]:
    try:
        return presets().names()
    except MotionError:
        return []  # why is said as soon as one is chosen or kept


def _chosen(name: str) -> list[Any]:
    try:
        tab = presets().get(name)
    except MotionError as error:
        gr.Warning(str(error))
        return [gr.update()] * len(KEPT)
    return [TAB_FIELDS[field].format(getattr(tab, field)) for field in KEPT]


def _saved(name: str, *values: Any) -> Any:
    try:
        presets().put(name, Tab(**dict(zip(KEPT, values, strict=True))))
    except MotionError as error:
        gr.Warning(str(error))
    return gr.update(choices=_names())


def _deleted(name: str) -> Any:
    try:
        presets().drop(name)
    except MotionError as error:
        gr.Warning(str(error))
    return gr.update(choices=_names(), value="")
