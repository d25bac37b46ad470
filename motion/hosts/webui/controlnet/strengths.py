"""How strongly ControlNet's units count in each frame: what a control network says is multiplied row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from motion import patching
from motion.errors import MotionError
from motion.hosts.webui.controlnet.inputs import Strengths
from motion.hosts.webui.controlnet.patchers import Put, put_otherwise
from motion.sampling.arrangement import Arrangement

WEIGHED = ("ControlNet", "ControlLoRA", "InstantID", "ControlNetUnion", "T2I_Adapter")
"""The kinds of sd-webui-controlnet's networks whose residuals are rows of the batch, by its own names."""
PATCHER = "ControlNetPatcher"
"""The class of the Forge family's networks of those kinds."""
BY_FRAME = "advanced_frame_weighting"
"""Its attribute with a weight for each picture of a batch."""


def weigh_networks(
    params: Sequence[Any], strengths: Sequence[Strengths | None], arrangement: Arrangement, undo: ExitStack
) -> None:
    """Multiply what sd-webui-controlnet's networks say, until ``undo`` is closed; ``params`` are those of its units.

    Raises MotionError for units whose frames cannot count differently.
    """
    for param, own in zip(params, strengths, strict=True):
        if own is None:
            continue
        kind = getattr(param.control_model_type, "name", "")
        if kind not in WEIGHED:
            raise MotionError(f"a ControlNet unit of the kind {kind} counts in all frames: take its lines away")
        if sum(other.control_model is param.control_model for other in params) > 1:
            raise MotionError("two ControlNet units have the same model, and one counts by frame: disable one of them")
        undo.callback(patching.after(param.control_model, _weighing(torch.tensor(own), arrangement)))


def _weighing(strengths: Tensor, arrangement: Arrangement) -> Callable[..., Any]:
    def weigh(_: Any, args: Any, residuals: Sequence[Tensor]) -> list[Tensor]:
        return [rows * _of_rows(rows, strengths, arrangement) for rows in residuals]

    return weigh


def _of_rows(rows: Tensor, strengths: Tensor, arrangement: Arrangement) -> Tensor:
    numbers = arrangement.frame_numbers(len(rows))
    return strengths[numbers].to(rows).reshape(-1, *[1] * (rows.ndim - 1))


def weigh_patchers(script: Any, strengths: Sequence[Strengths | None], undo: ExitStack) -> None:
    """The same for the Forge family's own units, whose ``script`` hands them to the UNet before each pass.

    Raises MotionError for units whose frames cannot count differently.
    """
    ways: dict[int, Callable[[Any, Put], Put]] = {}
    for params, own in zip(script.current_params.values(), strengths, strict=True):
        if own is None:
            continue
        if PATCHER not in {kind.__name__ for kind in type(params.model).__mro__}:
            raise MotionError("a ControlNet unit that is no ControlNet counts in all frames: take its lines away")
        ways[id(params)] = _way(own)
    put_otherwise(script, ways, undo)


def _way(strengths: Strengths) -> Callable[[Any, Put], Put]:
    """The way in which a network is put into the UNet with these strengths."""

    def way(model: Any, put: Put) -> Put:
        def weighed(*args: Any, **kwargs: Any) -> Any:
            taken_back = patching.item(vars(model), BY_FRAME, list(strengths))  # the host clears it before
            try:
                return put(*args, **kwargs)
            finally:
                taken_back()

        return weighed

    return way
