"""Files that were distilled for a few steps, and the settings that they were distilled for.

They are told by their published names, whatever stands around them; `motion.weights.published` knows those of a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Recipe:
    """Settings by their names in the field table, as text."""

    name: str
    settings: Mapping[str, str]
    lora: str = ""
    """What the file of the image LoRA that belongs to it is called, if there is one."""
    strength: float = 1.0
    """Of that LoRA."""
    exact: frozenset[str] = field(default=frozenset({"sampler", "steps"}))
    """Those of the settings that no other value may take; the rest is a matter of taste."""

    def in_webui(self) -> Recipe:
        """The same by the labels of the WebUIs' pages."""
        sampler, schedule = WEBUI[self.settings["sampler"]]
        exact = {LABELS[name] for name in self.exact} | {SCHEDULE for name in self.exact if name == "steps"}
        plain = {LABELS[name]: text for name, text in self.settings.items() if name in LABELS}
        return replace(self, settings={**plain, "sampler": sampler, SCHEDULE: schedule}, exact=frozenset(exact))


SCHEDULE = "schedule type"
LABELS: Mapping[str, str] = {"sampler": "sampler", "steps": "steps", "cfg": "CFG scale"}
WEBUI: Mapping[str, tuple[str, str]] = {
    "euler": ("Euler", "SGM Uniform"),
    "ddim": ("Euler", "SGM Uniform"),
    "lcm": ("LCM", "SGM Uniform"),
}
"""Sampler and schedule type of the WebUIs for each sampler of a recipe.

Their DDIM knows no trailing steps. Euler's steps in k-diffusion's variables are DDIM's without noise (Song et al. 2020,
arXiv:2010.02502, equation 14).
"""
_SAME_STEPS = ("sgmuniform", "simple")
"""Schedule types, in lower case and letters alone, whose few steps are those of SGM Uniform."""


def schedule_type(name: str | None) -> str:
    """A schedule type as a recipe names it; those that lead through the same steps have one name."""
    plain = re.sub(r"[\W_]+", "", str(name or "Automatic").lower())
    return "SGM Uniform" if plain in _SAME_STEPS else str(name or "Automatic")


def _lightning(steps: int) -> Recipe:
    return Recipe(
        f"AnimateDiff-Lightning, {steps} {'step' if steps == 1 else 'steps'}",
        {"sampler": "euler", "steps": str(steps), "cfg": "1", "betas": "auto"},
    )


def _hyper(steps: int) -> Recipe:
    return Recipe(
        f"Hyper-SD, {steps} steps",
        {"sampler": "ddim", "spacing": "trailing", "steps": str(steps), "cfg": "1"},
    )


_SAMPLER = frozenset({"sampler"})
_LCM = {"sampler": "lcm", "steps": "6", "cfg": "1.5"}
RECIPES: tuple[tuple[str, Recipe], ...] = (
    *((rf"lightning_?{steps}_?step", _lightning(steps)) for steps in (1, 2, 4, 8)),
    (
        r"animatelcm_?sd15_?t2v(?!_?lora)",
        Recipe("AnimateLCM", {**_LCM, "betas": "auto"}, "AnimateLCM_sd15_t2v_lora", 0.8, _SAMPLER),
    ),
    (r"animatelcm_?sd15_?t2v_?lora|lcm_?lora", Recipe("LCM LoRA", _LCM, exact=_SAMPLER)),
    *((rf"hyper_?sd(15|xl)_?{steps}_?steps?_?(?!cfg)lora", _hyper(steps)) for steps in (2, 4, 8)),
)
"""A recipe for each published name, in lower case and with `_` for whatever parts its words.

Lin & Yang 2024 (arXiv:2403.12706) for Lightning, Wang et al. 2024 (arXiv:2402.00769) for AnimateLCM, Luo et al. 2023
(arXiv:2311.05556) for LCM LoRAs, Ren et al. 2024 (arXiv:2404.13686) for Hyper-SD, whose DDIM steps are
trailing; the one for a single step wants a sampler that is not here. The LoRA's strength beside AnimateLCM is that of
diffusers' documentation.
"""


def recipe_of(name: str) -> Recipe | None:
    """The recipe of a file by its name without the suffix; None for one of many steps."""
    plain = re.sub(r"[\W_]+", "_", name.lower())
    return next((recipe for mark, recipe in RECIPES if re.search(mark, plain)), None)


def find_recipe(names: Iterable[str]) -> Recipe | None:
    """The first recipe among the files of a clip, its motion module first."""
    return next(filter(None, map(recipe_of, names)), None)


def contradiction(recipe: Recipe, settings: Mapping[str, str], loras: Iterable[str]) -> str:
    """What of `settings`, by name and as text, a recipe rules out, in one sentence; empty if nothing."""
    exact = {name: wanted for name, wanted in recipe.settings.items() if name in recipe.exact}
    wrong = [f"{name} {settings[name]}" for name, wanted in exact.items() if settings.get(name, wanted) != wanted]
    if wrong:
        wanted = ", ".join(f"{name} {value}" for name, value in exact.items())
        return f"{recipe.name} was distilled for {wanted}: {', '.join(wrong)} will not do"
    if recipe.lora and not any(recipe_of(name) for name in loras):
        return f"{recipe.name} goes with the LoRA {recipe.lora}: give it as well"
    return ""
