"""Settings that a user keeps under a name, in one JSON file, and those that come with the project."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from motion.errors import MotionError
from motion.fields.table import Image
from motion.settings.few_steps import RECIPES, Recipe
from motion.settings.stored import StoredObject
from motion.settings.tab import TAB_FIELDS, Tab

KEPT = tuple(row.name for row in TAB_FIELDS.values() if row.name != "enabled" and not isinstance(row, Image))
"""Settings that a preset holds: all that text can hold, but not the switch."""
_RECIPES = {recipe.name: recipe for _, recipe in RECIPES}


def _of_recipe(recipe: Recipe) -> dict[str, Any]:
    """What of a recipe the tab has; a cache saves nothing in so few steps."""
    named = {name: TAB_FIELDS[name].parse(text) for name, text in recipe.settings.items() if name in KEPT}
    return {"cache": "off", **named}


BUNDLED: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "Seamless loop": {"frames": 16, "fps": 8.0, "loop": "closed"},
        "Key-frame morph": {"frames": 16, "fps": 8.0, "loop": "none", "key_scale": 1.0, "colour_match": True},
        "Long clip": {"frames": 64, "loop": "none", "context_length": 16, "context_overlap": 4, "noise": "auto"},
        **{name: _of_recipe(recipe) for name, recipe in _RECIPES.items()},
    }
)
"""What users do first, and the recipes of files for few steps. They set what they name, and leave all else as it is."""


class Presets:
    """The presets in `path`, a JSON object of objects by name; no file is none but the bundled ones."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stored = StoredObject(path, dict)

    def names(self) -> list[str]:
        """The user's in the order of the alphabet, then the bundled ones. Raises MotionError for a damaged file."""
        own = sorted(self._stored.read(), key=str.casefold)
        return [*own, *(name for name in BUNDLED if name not in own)]

    def get(self, name: str) -> dict[str, Any]:
        """What a preset sets, by the fields' names. What one of the user's does not name has its default, and what is
        no longer valid is refused.

        Raises MotionError if there is none of that name.
        """
        name, own = name.strip(), self._stored.read()
        if name in own:
            tab = Tab(**{key: value for key, value in own[name].items() if key in KEPT})
            return {key: getattr(tab, key) for key in KEPT}
        if name not in BUNDLED:
            raise MotionError(f"there is no preset {name!r}: choose one of {', '.join(self.names())}")
        return dict(BUNDLED[name])

    def recipe(self, name: str) -> Recipe | None:
        """The recipe that a bundled preset is, which sets steps and sampler as well; None for any other."""
        return None if name.strip() in self._stored.read() else _RECIPES.get(name.strip())

    def put(self, name: str, tab: Tab) -> None:
        """Keep `tab` as `name`, in place of what had that name. Raises MotionError if it cannot be written."""
        if not name.strip():
            raise MotionError("a preset needs a name: type one")
        self._stored.write({**self._stored.read(), name.strip(): {key: getattr(tab, key) for key in KEPT}})

    def drop(self, name: str) -> None:
        """Delete `name`. Raises MotionError if it is none of the user's."""
        name, own = name.strip(), self._stored.read()
        if name not in own:
            there = "comes with Motion and stays" if name in BUNDLED else "is no preset"
            raise MotionError(f"{name!r} {there}: choose one of your own to delete")
        self._stored.write({kept: preset for kept, preset in own.items() if kept != name})
