"""The sections of the accordion, drawn from the field table: a row names its section, and what it depends on."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import gradio as gr

from motion.extension.page.components import component
from motion.fields.table import Field, Image
from motion.fields.weighted import Weights
from motion.settings.key_frames import KeyImages
from motion.settings.layers import FurtherModules
from motion.settings.sections import FIRST, SECTIONS
from motion.settings.tab import TAB_FIELDS

WIDE = (Image, KeyImages, Weights, FurtherModules)
"""Rows that want the whole width."""
SIDE_BY_SIDE = 2


def build(
    made: dict[str, Any], elem_id: Callable[[str], str], is_img2img: bool, above: Mapping[str, Callable[[], None]]
) -> None:
    """Draw each section that has rows and put their components into `made`, by name; `above` draws what some sections
    begin with, by their names."""
    for group, title in SECTIONS.items():
        if group == FIRST or not _rows(group, made):
            continue
        visible = group != "img2img" or is_img2img
        with gr.Accordion(title, open=False, visible=visible, elem_id=elem_id(f"section_{group}")):
            above.get(group, lambda: None)()
            draw(group, made, elem_id)


def details(elem_id: Callable[[str], str]) -> None:
    """What lines of help have no room for, for `javascript/motion-labels.js` to show."""
    texts = {elem_id(row.name): row.detail for row in TAB_FIELDS.values() if row.detail}
    items = "".join(f"<li data-for='{html.escape(key)}'>{html.escape(text)}</li>" for key, text in texts.items())
    gr.HTML(f"<ul class='motion-details' hidden>{items}</ul>")


def draw(group: str, made: dict[str, Any], elem_id: Callable[[str], str]) -> None:
    """Draw the rows of a section that are not there yet, two side by side."""
    for line in _lines(_rows(group, made)):
        with gr.Row():
            made.update({row.name: component(row, elem_id) for row in line})


def follow(made: Mapping[str, Any]) -> None:
    """Show what depends on other rows as soon as one of those is not at its default."""
    dependent = sorted((row for row in TAB_FIELDS.values() if row.needs), key=lambda row: row.needs)
    for needs, rows in groupby(dependent, key=lambda row: row.needs):
        shown, inputs = [made[row.name] for row in rows], [made[name] for name in needs]
        for changing in (made["enabled"], *inputs):
            changing.change(partial(_show, needs, len(shown)), inputs=inputs, outputs=shown, show_progress=False)


def _show(needs: Sequence[str], count: int, *values: Any) -> Any:
    rows = [TAB_FIELDS[name] for name in needs]
    used = any(value != row.format(row.default) for row, value in zip(rows, values, strict=True))
    return [gr.update(visible=used)] * count if count > 1 else gr.update(visible=used)


def _rows(group: str, made: Mapping[str, Any]) -> list[Field]:
    return [row for row in TAB_FIELDS.values() if row.group == group and row.name not in made]


def _lines(rows: Sequence[Field]) -> Iterator[list[Field]]:
    """The rows of each line: a wide one alone, of the others two."""
    line: list[Field] = []
    for row in rows:
        if line and (len(line) == SIDE_BY_SIDE or isinstance(row, WIDE) or isinstance(line[0], WIDE)):
            yield line
            line = []
        line.append(row)
    if line:
        yield line
