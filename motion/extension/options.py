"""Motion's section on the host's settings page."""

from __future__ import annotations

from typing import Any

import gradio as gr

from motion.extension.models import FOLDER, FOLDERS_SETTING
from motion.hosts.webui.backends.base import host_module
from motion.settings.tab import FORMATS, TAB_FIELDS

FORMATS_SETTING = "motion_formats"
ALL_SETTING = "motion_infotext_all"


def add_options() -> None:
    """Called by the host when it builds its settings page."""
    row = TAB_FIELDS["formats"]
    labels = row.format(row.default)
    _add(
        FOLDERS_SETTING, "", "More folders with motion modules", gr.Textbox, {"lines": 3},
        f"one a line, beside models/{FOLDER}; press refresh in the tab",
    )  # fmt: skip
    _add(
        FORMATS_SETTING, labels, "Formats that the tab begins with",
        host_module("ui_components").DropdownMulti, {"choices": list(FORMATS.values())},
        f"of clips; other than {', '.join(labels)} it counts before a saved default, after a restart",
    )  # fmt: skip
    _add(
        ALL_SETTING, False, "Write all of Motion's settings into infotext", gr.Checkbox, {},
        "else those that are not at their defaults",
    )  # fmt: skip


def _add(name: str, default: Any, label: str, component: Any, arguments: dict[str, Any], info: str) -> None:
    shared = host_module("shared")
    made = shared.OptionInfo(default, label, component, arguments, section=("motion", "Motion"), category_id="sd")
    shared.opts.add_option(name, made.info(info))
