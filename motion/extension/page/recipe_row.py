"""What a module or LoRA was distilled for that takes few steps: said on the page, and set by one button or preset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

import gradio as gr

from motion.errors import MotionError
from motion.extension.models import few_step_files, host_lora
from motion.extension.page.notes import note
from motion.extension.page.preset_row import PresetRow, presets
from motion.settings.few_steps import LABELS, SCHEDULE, Recipe, contradiction, find_recipe, schedule_type
from motion.settings.tab import TAB_FIELDS

SETTINGS = ("module", "loras", "betas")
HOST: Mapping[str, str] = {
    **{"prompt": "", "sampling": LABELS["sampler"], "scheduler": SCHEDULE},
    **{"steps": LABELS["steps"], "cfg_scale": LABELS["cfg"]},
}
"""The host's own components that a recipe sets, as their elements are called after the tab's name, and its names for
what they show."""
USE = "Use its recipe"


def host_names() -> tuple[str, ...]:
    """Those of `HOST` that the host has: some know no schedule types."""
    return tuple(name for name in HOST if name != "scheduler" or find_spec("modules.sd_schedulers") is not None)


class RecipeRow:
    """A line and a button, in sight while a file is chosen that has a recipe."""

    def __init__(self, elem_id: Callable[[str], str]) -> None:
        self.said = gr.HTML(elem_id=elem_id("recipe_said"))
        self.button = gr.Button(USE, visible=False, elem_id=elem_id("use_recipe"))

    def follow(self, made: Mapping[str, Any], host: Mapping[str, Any], row: PresetRow) -> None:
        """Say anew what is to be said when a file or a setting changes; let the button and presets set the host's."""
        of_host = [host[name] for name in host_names()]
        inputs, told = [*(made[name] for name in SETTINGS), *of_host], [self.said, self.button]
        changing = [each.change for each in (made["enabled"], *inputs) if each is not host["prompt"]]
        for trigger in (*changing, host["prompt"].blur):
            trigger(describe, inputs=inputs, outputs=told, show_progress=False)
        used = self.button.click(use, inputs=inputs, outputs=[made["betas"], *of_host], show_progress=False)
        used.then(describe, inputs=inputs, outputs=told, show_progress=False)
        for chosen in row.choosing:
            chosen(of_preset, inputs=[row.name, host["prompt"]], outputs=of_host, show_progress=False)


def describe(*values: Any) -> tuple[str, Any]:
    """One line on the recipe for these values of `SETTINGS` and `host_names`, a warning where they contradict it; and
    the button, in sight while there is something to set."""
    shown = dict(zip((*SETTINGS, *host_names()), values, strict=True))
    recipe, loras = _recipe(shown)
    if recipe is None:
        return "", gr.update(visible=False)
    wanted, now = recipe.in_webui(), {HOST[name]: _text(name, shown[name]) for name in host_names()[1:]}
    beside = bool(recipe.lora) and find_recipe(loras) is None
    others = {name: text for name, text in wanted.settings.items() if now.get(name, text) != text}
    said = contradiction(wanted, now, loras) or f"{recipe.name} goes with {_list(wanted.settings)}"
    return note(f"{said}."), gr.update(visible=bool(others) or (beside and host_lora(recipe.lora) is not None))


def use(*values: Any) -> list[Any]:
    """What the betas and those of `host_names` show of the recipe."""
    shown = dict(zip((*SETTINGS, *host_names()), values, strict=True))
    recipe, loras = _recipe(shown)
    if recipe is None:
        return [gr.update()] * (1 + len(host_names()))
    betas = TAB_FIELDS["betas"].format(recipe.settings["betas"]) if "betas" in recipe.settings else gr.update()
    return [betas, *_of_host(recipe, str(shown["prompt"] or ""), loras)]


def of_preset(name: str | None, prompt: str) -> list[Any]:
    """What those of `host_names` show of a preset that is a recipe; of any other they stay as they are."""
    recipe = None
    with suppress(MotionError):  # the row of presets says it
        recipe = presets().recipe(name or "")
    if recipe is None:
        return [gr.update()] * len(host_names())
    return _of_host(recipe, prompt or "", few_step_files("", [], prompt or "")[1])


def _of_host(recipe: Recipe, prompt: str, loras: Sequence[str]) -> list[Any]:
    settings = recipe.in_webui().settings
    lora = host_lora(recipe.lora) if recipe.lora and find_recipe(loras) is None else None
    told = prompt if lora is None else f"{prompt} <lora:{lora}:{recipe.strength:g}>".strip()
    numbers = {name: float(settings[HOST[name]]) for name in ("steps", "cfg_scale")}
    texts = {name: settings[HOST[name]] for name in ("sampling", "scheduler")}
    return [{"prompt": told, **texts, **numbers}[name] for name in host_names()]


def _recipe(shown: Mapping[str, Any]) -> tuple[Recipe | None, list[str]]:
    """The recipe of the files that the page shows, and the LoRAs' names."""
    named = []
    with suppress(MotionError):  # said when the clip is drawn
        named = [item.name for item in TAB_FIELDS["loras"].check(shown["loras"] or ())]
    names, loras = few_step_files(str(shown["module"] or ""), named, str(shown["prompt"] or ""))
    return find_recipe(names), loras


def _text(name: str, value: Any) -> str:
    """A component's value as a recipe has it."""
    if name == "scheduler":
        return schedule_type(value)
    return f"{value or 0:g}" if name in ("steps", "cfg_scale") else str(value)


def _list(settings: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {text}" for name, text in settings.items())
