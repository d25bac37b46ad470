"""ControlNets beside the step cache: where the UNet takes layers from an earlier step, theirs count for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any

from torch import nn

from motion.errors import MotionError
from motion.sampling.arrangement import Arrangement
from motion.sampling.step_cache import attach_control

REFERENCE = "AttentionInjection"
"""sd-webui-controlnet's name of units that run the UNet once more within each of its calls."""


def let_stand_aside(network: Any, arrangement: Arrangement, undo: ExitStack) -> None:
    """Let what of a control network no computed layer takes stand aside, until ``undo`` is closed.

    Networks that are no copy of a UNet's inner half, as T2I-Adapters, are computed as ever.
    """
    if isinstance(network, nn.Module):
        with suppress(MotionError):
            undo.enter_context(attach_control(network, arrangement))


def follow_cache(params: Sequence[Any], arrangement: Arrangement, undo: ExitStack) -> None:
    """Let the networks of sd-webui-controlnet's units stand aside with the UNet, and the steps in which they start or
    end be whole. ``params`` are those of the units. Raises MotionError for units that cannot go with the cache."""
    if any(getattr(param.control_model_type, "name", "") == REFERENCE for param in params):
        raise MotionError("ControlNet's reference units and the step cache cannot go together: turn one of them off")
    for network in {id(param.control_model): param.control_model for param in params}.values():
        let_stand_aside(getattr(network, "control_model", None), arrangement, undo)

    def acting() -> tuple[bool, ...]:
        return tuple(not param.guidance_stopped for param in params)  # the extension has just settled it

    arrangement.states.append(acting)
    undo.callback(arrangement.states.remove, acting)
