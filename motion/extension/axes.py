"""Motion's axes in the host's X/Y/Z plot: one for each row of the field table that a number or a name can vary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from motion.extension.models import FILES, lora_files, module_names
from motion.fields.numbers import Numbers
from motion.fields.table import Choice, Field, Number
from motion.fields.varying import Varying
from motion.fields.weighted import Weights
from motion.hosts.webui.backends.base import host_module
from motion.settings.tab import TAB_FIELDS

PREFIX = "[Motion] "
CHANGED = "_motion_axes"
"""The attribute of `p` that holds what an axis changes in its cell."""


def register() -> None:
    """Add the axes to the plot's list, once; without the plot there is nothing to do."""
    plot = _loaded_plot()
    if plot is None or any(option.label.startswith(PREFIX) for option in plot.axis_options):
        return
    plot.axis_options += [axis(row, plot.AxisOption) for row in TAB_FIELDS.values() if _varies(row)]


def axis_changes(p: Any) -> Mapping[str, Any]:
    """The settings of `p` that axes have changed, by field name."""
    values: Mapping[str, Any] = vars(p).get(CHANGED, {})
    return values


def axis(row: Field, option: Callable[..., Any]) -> Any:
    """The plot's option for one row."""

    def apply(p: Any, value: Any, _: Any) -> None:
        setattr(p, CHANGED, {**axis_changes(p), row.name: value})

    number = isinstance(row, Number) and not isinstance(row, Varying)
    kind = type(row.default) if number else str
    choices = {"choices": lambda: list(row.choices)} if isinstance(row, Choice) else {}
    if row.name in FILES:
        choices = {"choices": lambda: module_names() if row.name == "module" else lora_files(row.name)}
    return option(PREFIX + row.label, kind, apply, cost=0.5 if row.name == "module" else 0.0, **choices)


def _varies(row: Field) -> bool:
    of_a_clip = bool(row.key)
    return of_a_clip and (isinstance(row, (Number, Numbers, Choice, Weights)) or row.name in FILES)


def _loaded_plot() -> Any:
    """The plot's module, which the host keeps out of `sys.modules`."""
    data = host_module("scripts").scripts_data
    found = (script.module for script in data if script.script_class.__module__.endswith("xyz_grid.py"))
    return next(found, None)
