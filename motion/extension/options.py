"""Motion's section on the host's settings page."""

from __future__ import annotations

import gradio as gr

from motion.extension.models import FOLDER, FOLDERS_SETTING
from motion.hosts.webui.base import host_module


def add_options() -> None:
    """Called by the host when it builds its settings page."""
    shared = host_module("shared")
    info = shared.OptionInfo(
        "",
        "More folders with motion modules",
        gr.Textbox,
        {"lines": 3},
        section=("motion", "Motion"),
        category_id="sd",
    )
    shared.opts.add_option(FOLDERS_SETTING, info.info(f"one a line, beside models/{FOLDER}; press refresh in the tab"))
