"""Fields that list files on the page: a list to add from, and a row for each, which `javascript/motion-lists.js` draws
with what can be set of it, a number or a curve."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from motion.errors import MotionError
from motion.extension.models import module_names
from motion.fields.weighted import Weighted, Weights
from motion.settings.layers import STRONGEST, FurtherModule
from motion.settings.tab import TAB_FIELDS

REMOVE = "Remove"


@dataclass(frozen=True)
class Listed:
    """What is listed: the field, the beginning of the elements' ids, what its rows show, and a new item of a name."""

    field: str
    ids: str
    parts: str
    make: Callable[[str], Any]


def _typed(part: int | str, label: str, kind: str = "text", bounds: str = "") -> str:
    """A box for a part of an item: its place or its name."""
    return (
        f'<input type="text" data-part="{part}" data-kind="{kind}" {bounds} placeholder="{label}" aria-label="{label}">'
    )


def _bounds(low: float, high: float) -> str:
    return f'data-low="{low}" data-high="{high}"'


def loras() -> Listed:
    """Motion LoRAs, each with a slider and a box for its weight."""
    row = TAB_FIELDS["loras"]
    assert isinstance(row, Weights)
    bounds = _bounds(row.low, row.high)
    slider = '<input type="range" min="-2" max="2" step="0.05" data-part="1" aria-label="Weight">'
    parts = f'<span data-part="0"></span>{slider}{_typed(1, "Weight", "curve", bounds)}'
    return Listed("loras", "lora", parts, Weighted)


def further_modules() -> Listed:
    """Motion modules beside the first, each with boxes for its effect, start, end and mask."""
    effect = _typed("effect", "Effect", "curve", _bounds(0, STRONGEST))
    span = "".join(_typed(name, label, "number", _bounds(0, 1)) for name, label in (("start", "Start"), ("end", "End")))
    parts = f'<span data-part="module"></span>{effect}{span}{_typed("mask", "Mask")}'
    return Listed("modules", "further", parts, lambda name: FurtherModule(name))


class ListRow:
    """What stands above the field."""

    def __init__(self, elem_id: Callable[[str], str], listed: Listed) -> None:
        self.elem_id = elem_id
        self.listed = listed

    def build(self) -> None:
        """Draw it."""
        row, ids = TAB_FIELDS[self.listed.field], self.listed.ids
        with gr.Row(elem_id=self.elem_id(f"{ids}_row")):
            self.chooser = gr.Dropdown([], label=row.label, info=row.help, elem_id=self.elem_id(f"{ids}_chooser"))
            self.chooser.do_not_save_to_config = True  # hosts know defaults by labels, and this is the field's
            self.button = gr.Button("Add", elem_id=self.elem_id(f"{ids}_add"))
        text = html.escape(self.elem_id(self.listed.field))
        remove = f'<button type="button" title="{REMOVE}" aria-label="{REMOVE}">&#10005;</button>'
        item = f'<li class="motion-item motion-{ids}">{self.listed.parts}{remove}</li>'
        gr.HTML(f'<div class="motion-list" data-text="{text}"><ul></ul><template>{item}</template></div>')

    def follow(self, made: Mapping[str, Any]) -> None:
        """Put the file that is chosen into the field when "Add" is pressed."""
        field = made[self.listed.field]
        self.button.click(self.add, inputs=[self.chooser, field], outputs=[self.chooser, field], show_progress=False)

    def follow_modules(self, made: Mapping[str, Any], refresh: Any) -> None:
        """Offer motion modules when Motion is switched on or files were looked for."""
        for trigger in (made["enabled"].change, refresh.click):
            trigger(lambda: gr.update(choices=module_names()), outputs=[self.chooser], show_progress=False)

    def add(self, name: str | None, text: str) -> tuple[Any, Any]:
        """The list with nothing chosen, and the field with `name` in it, once."""
        row = TAB_FIELDS[self.listed.field]
        try:
            known = row.check(text)
        except MotionError as error:
            gr.Warning(str(error))
            return gr.update(), gr.update()
        added = [self.listed.make(name)] if name and name not in {item[0] for item in known} else []
        return gr.update(value=None), row.format((*known, *added))
