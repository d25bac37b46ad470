"""What sd-webui-controlnet's networks are shown in a call of the UNet: the hints of its own frames.

The extension makes hints for prompt and negative prompt together, and some kinds keep what they have made of them for
all calls of a job: T2I-Adapters their features, ControlLLLite its embeddings (1.1.455).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from torch import Tensor

from motion import patching
from motion.sampling.arrangement import Arrangement
from motion.sampling.rows import Rows

KEPT = "control"
"""Where a T2I-Adapter keeps its features."""
LLLITE = "Controlllite"
"""The extension's name of networks whose parts stand before the UNet's own projections, and are shown pictures."""


def fit_hints(params: Sequence[Any], arrangement: Arrangement, undo: ExitStack) -> None:
    """Hand each call the hints of its own rows, until ``undo`` is closed; ``params`` are those of the units."""
    for param in params:
        if getattr(param.hint_cond, "shape", (1,))[0] not in (arrangement.frames, 2 * arrangement.frames):
            continue
        if getattr(getattr(param, "control_model_type", None), "name", "") == LLLITE:
            _show_parts(param.control_model.modules.values(), arrangement, undo)
        else:
            undo.callback(patching.before(param.control_model, _of_these_rows(arrangement), with_kwargs=True))


def _of_these_rows(arrangement: Arrangement) -> Callable[..., Any]:
    def fit(network: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        hint, x = kwargs.get("hint"), kwargs.get("x")
        if not isinstance(hint, Tensor) or not isinstance(x, Tensor):
            return None
        if hasattr(network, KEPT):
            setattr(network, KEPT, None)
        return args, {**kwargs, "hint": hint[arrangement.frame_numbers(len(x))]}

    return fit


def _show_parts(parts: Any, arrangement: Arrangement, undo: ExitStack) -> None:
    """All parts of a network are shown the same pictures, which are taken once for the calls of a window."""
    taken: dict[tuple[Any, ...], Tensor] = {}

    def show(part: Any, args: tuple[Any, ...]) -> None:
        numbers = tuple(arrangement.frame_numbers(len(args[0])))
        key = numbers, args[0].device, args[0].dtype
        if key not in taken:
            taken.clear()
            taken[key] = Rows(numbers).of(images[id(part)]).to(*key[1:])
        part.set_cond_image(taken[key])

    images: dict[int, Tensor] = {}
    for part in parts:
        images[id(part)] = part.cond_image
        undo.callback(part.set_cond_image, part.cond_image)
        undo.callback(patching.before(part, show))
