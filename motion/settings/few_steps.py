"""Files that were distilled for a few steps, and the settings that they were distilled for.

They are told by their published names, whatever stands around them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Recipe:
    """Settings by their names in the field table, as text."""

    name: str
    settings: Mapping[str, str]
    lora: str = ""
    """What the file of the image LoRA that belongs to it is called, if there is one."""
    exact: frozenset[str] = field(default=frozenset({"sampler", "steps"}))
    """Those of the settings that no other value may take; the rest is a matter of taste."""


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
        Recipe("AnimateLCM", _LCM, "AnimateLCM_sd15_t2v_lora", _SAMPLER),
    ),
    (r"animatelcm_?sd15_?t2v_?lora|lcm_?lora", Recipe("LCM LoRA", _LCM, exact=_SAMPLER)),
    *((rf"hyper_?sd(15|xl)_?{steps}_?steps?_?(?!cfg)lora", _hyper(steps)) for steps in (2, 4, 8)),
)
"""A recipe for each published name, in lower case and with `_` for whatever parts its words.

Lin & Yang 2024 (arXiv:2403.12706) for Lightning, Wang et al. 2024 (arXiv:2402.00769) for AnimateLCM, Luo et al. 2023
(arXiv:2311.05556) for LCM LoRAs, Ren et al. 2024 (arXiv:2404.13686) for Hyper-SD, whose DDIM steps are
trailing; the one for a single step wants a sampler that is not here.
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
    wrong = [f"{name} {settings[name]}" for name in recipe.settings if settings.get(name) != recipe.settings[name]]
    wrong = [text for text in wrong if text.split()[0] in recipe.exact]
    wanted = ", ".join(f"{name} {recipe.settings[name]}" for name in recipe.settings if name in recipe.exact)
    if wrong:
        return f"{recipe.name} was distilled for {wanted}: {', '.join(wrong)} will not do"
    if recipe.lora and not any(recipe_of(name) for name in loras):
        return f"{recipe.name} goes with the LoRA {recipe.lora}: give it as well"
    return ""
