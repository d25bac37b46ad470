"""The accordion: what is always in sight, and the sections under it. Building it reads nothing but a list of file
names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from motion.errors import MotionError
from motion.extension import infotext
from motion.extension.page import curve_row, list_row, plan_row, recipe_row, sections
from motion.extension.page.list_row import ListRow
from motion.extension.page.module_row import ModuleRow
from motion.extension.page.notes import alarm
from motion.extension.page.paste_row import PasteRow
from motion.extension.page.plan_row import PlanRow
from motion.extension.page.preset_row import PresetRow
from motion.extension.page.recipe_row import RecipeRow
from motion.extension.page.source_row import SourceRow
from motion.hosts.webui.backends.base import host_module
from motion.hosts.webui.backends.detect import host
from motion.settings.sections import FIRST
from motion.settings.tab import TAB_FIELDS


@dataclass(frozen=True)
class Panel:
    """The components in the order of the field table, and the host's paste functions for them.

    `follow` is told the host's own components that `around` names, when they are there.
    """

    components: list[Any] = field(default_factory=list)
    infotext_fields: list[tuple[Any, Callable[..., Any]]] = field(default_factory=list)
    follow: Callable[[Mapping[str, Any]], None] = lambda host: None


def around() -> frozenset[str]:
    """The host's own components that the page follows and sets, as their elements are called after the tab's name."""
    return frozenset({*plan_row.HOST, *recipe_row.host_names()})


def build(elem_id: Callable[[str], str], is_img2img: bool) -> Panel:
    """Build the accordion inside the host's page; `elem_id` names an element by its setting.

    In a host that lacks what Motion needs it holds one sentence.
    """
    try:
        host()
    except MotionError as error:
        with gr.Accordion("Motion", open=False):
            gr.HTML(alarm(error))
            off = gr.Checkbox(False, visible=False)  # where requests to the API put their settings, to be refused
        return Panel([off])
    made: dict[str, Any] = {}
    made["enabled"] = host_module("ui_components").InputAccordion(False, label="Motion", elem_id=elem_id("enabled"))
    with made["enabled"]:
        paste = PasteRow(elem_id, "img2img" if is_img2img else "txt2img")
        files, recipe, plan = ModuleRow(made, elem_id, paste), RecipeRow(elem_id), PlanRow(elem_id)
        loras, further = (ListRow(elem_id, listed()) for listed in (list_row.loras, list_row.further_modules))
        sections.draw(FIRST, made, elem_id)
        presets = PresetRow(elem_id)
        plan.build_cost()
        sections.details(elem_id)
        source = SourceRow(elem_id)
        above = {
            "source": source.build,
            "lora": loras.build,
            "layers": further.build,
            "windows": plan.build_picture,
            "output": paste.build,
        }
        sections.build(made, elem_id, is_img2img, above)
    sections.follow(made)
    curve_row.follow(made)
    loras.follow(made)
    further.follow(made)
    further.follow_modules(made, files.refresh)
    presets.follow(made)
    files.follow(made, loras.chooser)
    pasted = [(made[name], read) for name, read in infotext.PASTED.items()] + [(files.pasted, infotext.read_notes)]

    def follow(host_components: Mapping[str, Any]) -> None:
        plan.follow(made, host_components)
        recipe.follow(made, host_components, presets)
        source.follow(made, host_components)

    return Panel([made[name] for name in TAB_FIELDS], pasted, follow)
