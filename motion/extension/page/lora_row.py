"""Motion LoRAs on the page: a list to add from, and a row for each, which `javascript/motion-loras.js` draws: a slider,
and the weight to type, which may be a curve."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr

from motion.errors import MotionError
from motion.fields.weighted import Weighted, Weights
from motion.settings.tab import TAB_FIELDS

REMOVE = "Remove"
WEIGHT = "Weight"
ROW = f"""
<li class="motion-lora">
  <span class="motion-lora-name"></span>
  <input type="range" min="-2" max="2" step="0.05" aria-label="{WEIGHT}">
  <input type="text" aria-label="{WEIGHT}">
  <button type="button" title="{REMOVE}" aria-label="{REMOVE}">&#10005;</button>
</li>"""


class LoraRow:
    """What stands above the field of motion LoRAs."""

    def __init__(self, elem_id: Callable[[str], str]) -> None:
        self.elem_id = elem_id

    def build(self) -> None:
        """Draw it."""
        row = TAB_FIELDS["loras"]
        assert isinstance(row, Weights)
        with gr.Row(elem_id=self.elem_id("lora_row")):
            self.chooser = gr.Dropdown([], label=row.label, info=row.help, elem_id=self.elem_id("lora_chooser"))
            self.chooser.do_not_save_to_config = True  # hosts know defaults by labels, and this is the field's
            self.button = gr.Button("Add", elem_id=self.elem_id("lora_add"))
        text = html.escape(self.elem_id("loras"))
        limits = f'data-low="{row.low}" data-high="{row.high}"'
        gr.HTML(f'<div class="motion-loras" data-text="{text}" {limits}><ul></ul><template>{ROW}</template></div>')

    def follow(self, made: Mapping[str, Any]) -> None:
        """Put the LoRA that is chosen into the field when "Add" is pressed."""
        ends = {"inputs": [self.chooser, made["loras"]], "outputs": [self.chooser, made["loras"]]}
        self.button.click(add, **ends, show_progress=False)


def add(name: str | None, text: str) -> tuple[Any, Any]:
    """The list with nothing chosen, and the field with `name` in it, once."""
    row = TAB_FIELDS["loras"]
    try:
        known = row.check(text)
    except MotionError as error:
        gr.Warning(str(error))
        return gr.update(), gr.update()
    added = [Weighted(name)] if name and name not in {item.name for item in known} else []
    return gr.update(value=None), row.format((*known, *added))
