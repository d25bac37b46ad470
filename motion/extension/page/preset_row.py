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


def build(made: Mapping[str, Any], elem_id: Callable[[str], str]) -> None:
    """Build the row; `made` are the components by field name."""
    button = host_module("ui_components").ToolButton
    kept = [made[name] for name in KEPT]
    with gr.Row(elem_id=elem_id("presets")):
        name = gr.Dropdown(
            _names(), value="", label="Preset", info="choose one, or type a name and keep the settings under it",
            allow_custom_value=True, elem_id=elem_id("preset"),
        )  # fmt: skip
        save = button(SAVE, elem_id=elem_id("preset_save"), tooltip="Keep the settings under this name")
        delete = button(DELETE, elem_id=elem_id("preset_delete"), tooltip="Forget the preset of this name")
    name.select(_chosen, inputs=[name], outputs=kept, show_progress=False)
    save.click(_saved, inputs=[name, *kept], outputs=[name], show_progress=False)
    delete.click(_deleted, inputs=[name], outputs=[name], show_progress=False)


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
