"""The style of a second checkpoint: the UNet computes with ``W + strength (W' - W)``.

Bar-Tal et al. 2024, "Lumiere" (arXiv:2401.12945), section 5.1. Where the strength is a curve each frame has its own:
every layer is linear in its weights, so what both make of its input is mixed row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from motion import patching
from motion.errors import MotionError
from motion.fields.curve import Value
from motion.sampling.arrangement import Arrangement
from motion.sampling.frame_values import FrameValues, number_of
from motion.sampling.windows import Windows


@contextmanager
def attach(
    unet: nn.Module, other: nn.Module, strength: Value, frames: int = 16, arrangement: Arrangement | None = None
) -> Iterator[None]:
    """Within the scope ``unet`` computes with weights between its own (``strength`` 0) and those of ``other`` (1).

    ``other`` is a UNet of the same class on the same device. ``strength``, a number or a curve over ``frames``, those
    of the finished clip, and steps, as they lie in the ``arrangement`` of the `motion.attach` beside it; a curve
    computes each layer twice, and so does a number where weights are stored in eight bits. At 0 nothing is changed, and
    on exit the UNet is exactly as it was found. Raises MotionError for a UNet with other layers, and for keys that are
    not in the clip.
    """
    strength = number_of(strength)
    values = FrameValues(arrangement or Arrangement(Windows(frames)), frames, [strength])
    pairs = _pairs(unet, other)
    with ExitStack() as undo:
        if isinstance(strength, str):
            undo.callback(values.follow(unet, rows=True))
            undo.callback(patching.item(vars(values.arrangement), "by_row", True))
            for own, theirs in pairs:
                # First: what others make of the layer's output may have other rows than its input.
                undo.callback(patching.after(own, partial(_mix, theirs, partial(values.of_rows, strength)), first=True))
        elif strength != 0:
            for own, theirs in pairs:
                if any(weight.dtype.itemsize == 1 for weight in own.parameters(recurse=False)):
                    undo.callback(patching.after(own, partial(_mix, theirs, lambda output: strength), first=True))
                    continue
                for name, weight in own.named_parameters(recurse=False):
                    second = theirs.get_parameter(name).to(weight)
                    mixed = nn.Parameter(torch.lerp(weight, second, strength), requires_grad=False)
                    undo.callback(patching.item(own._parameters, name, mixed))
        yield


def _pairs(unet: nn.Module, other: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """The layers that hold weights, each with the other UNet's."""
    shapes = [{name: weight.shape for name, weight in each.named_parameters()} for each in (unet, other)]
    if shapes[0] != shapes[1]:
        raise MotionError("the style's checkpoint has other layers than the clip's: give one made for the same base")
    theirs = dict(other.named_modules())
    return [(layer, theirs[name]) for name, layer in unet.named_modules() if layer._parameters]


def _mix(theirs: nn.Module, share: Callable[[Tensor], Any], own: nn.Module, args: Any, output: Tensor) -> Tensor:
    return torch.lerp(output, theirs(*args), share(output))
