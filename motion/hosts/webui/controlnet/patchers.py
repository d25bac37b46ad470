"""The Forge family's ControlNet units, whose script hands the network of each to the UNet before each pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from motion import patching

BEFORE = "process_before_every_sampling"
"""The method of a network that puts it into the UNet, and, with the unit's name for it, the script's that calls it."""
Put = Callable[..., Any]


def put_otherwise(script: Any, ways: Mapping[int, Callable[[Any, Put], Put]], undo: ExitStack) -> None:
    """Let the networks of units be put into the UNet in other ways, until ``undo`` is closed.

    ``ways`` has, by the identity of a unit's parameters, what makes of its network and the network's own method the
    one that stands in.
    """
    name = f"process_unit_{BEFORE.removeprefix('process_')}"
    hand_over: Callable[..., Any] = getattr(script, name)

    def handed(p: Any, unit: Any, params: Any, *args: Any, **kwargs: Any) -> Any:
        if id(params) not in ways:
            return hand_over(p, unit, params, *args, **kwargs)
        model = params.model
        back = patching.item(vars(model), BEFORE, ways[id(params)](model, getattr(model, BEFORE)))
        try:
            return hand_over(p, unit, params, *args, **kwargs)
        finally:
            back()

    undo.callback(patching.item(vars(script), name, handed))
