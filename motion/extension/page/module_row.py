"""The first rows of the accordion: the motion module, what it is, and where to get one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import gradio as gr

from motion.extension.models import library
from motion.extension.page import download_row
from motion.extension.page.offer import missed_adapter, notes, offer, settle
from motion.extension.page.paste_row import PasteRow
from motion.hosts.webui.backends.base import host_module
from motion.settings.tab import NO_MODULE, TAB_FIELDS

REFRESH = "\U0001f504"


class ModuleRow:
    """The list of modules, what is said of them, the button for a missed adapter, and the downloads."""

    def __init__(self, made: MutableMapping[str, Any], elem_id: Callable[[str], str], paste: PasteRow) -> None:
        row = TAB_FIELDS["module"]
        names = [*(entry.name for entry in library().entries()), NO_MODULE]
        with gr.Row(elem_id=elem_id("files")):
            made["module"] = gr.Dropdown(
                names, value="", label=row.label, info=row.help, elem_id=elem_id("module"),
                allow_custom_value=True,
            )  # fmt: skip
            button = host_module("ui_components").ToolButton
            self.refresh = button(REFRESH, elem_id=elem_id("refresh"), tooltip="Look for files again")
        self.notes = gr.HTML(elem_id=elem_id("notes"))
        self.pasted = gr.HTML(elem_id=elem_id("pasted"))
        self.adapter = gr.Button("Add the domain adapter", visible=False, elem_id=elem_id("add_adapter"))
        self.downloads, self.downloaded = download_row.build(elem_id, paste)

    def follow(self, made: Mapping[str, Any], loras: Any) -> None:
        """Fill the lists, also that of `loras`, when Motion is switched on, files were looked for or have come."""
        chosen = [made["module"], made["adapter"]]
        filled = [made["module"], made["adapter"], loras, self.downloads]
        settled = [made["module"], self.notes, self.adapter]
        triggers = {made["enabled"].change: settle, self.refresh.click: settle, self.downloaded.then: _settle_new}
        for trigger, settling in triggers.items():  # what was chosen while files were looked at, stays
            listed = trigger(offer, outputs=filled, show_progress=False)
            listed.then(settling, inputs=chosen, outputs=settled, show_progress=False)
        for changing in chosen:
            changing.change(notes, inputs=chosen, outputs=[self.notes, self.adapter], show_progress=False)
        self.adapter.click(missed_adapter, outputs=[made["adapter"]], show_progress=False)


def _settle_new(chosen: str, adapter: str) -> tuple[Any, ...]:
    """What there is after a download: whoever had no module has the new one."""
    return settle("" if chosen == NO_MODULE else chosen, adapter)
