"""What a LoRA makes of a matrix: merged into it, or its product added to what the layer makes of its input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from motion.fields.curve import Value
from motion.weights.formats.pairs import Pair

T = TypeVar("T", bound=nn.Module)
Strength = Callable[[Tensor], float | Tensor]
"""The weight for an input of a layer: one number, or a tensor that broadcasts to the layer's output."""


class Change(NamedTuple):
    """What happens to which rows of a matrix."""

    rows: slice
    pair: Pair
    weight: Value


def strength_of(weight: Value, values: Callable[[Value, Tensor], Tensor]) -> Strength:
    """The strength of a weight: that of a curve as ``values`` gives it for an input."""
    return partial(values, weight) if isinstance(weight, str) else lambda x: weight


def merge(matrix: Any, parts: Sequence[Change]) -> Tensor:
    """``matrix`` with the products added to its rows: a tensor of the graph where one of them is being trained."""
    # The products are summed up first: so two of them come out the same in either order.
    with torch.inference_mode(False):
        small = matrix.dtype.itemsize == 1
        wide = torch.float32 if small else torch.promote_types(matrix.dtype, torch.float32)
        total = torch.zeros_like(matrix, dtype=wide, requires_grad=False)
        for rows, pair, weight in parts:
            total[rows] += float(weight) * pair.delta(like=total)
        # Eight bits would round most of a change away: such a matrix is a wider one while the scope lasts.
        merged = (matrix.detach().to(wide) + total).to(wide if small else matrix.dtype)
    return merged if merged.requires_grad else nn.Parameter(merged, requires_grad=False)


def multiplied(layer: nn.Module, x: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """``up @ down @ x`` where ``layer`` multiplies ``x`` by a matrix, or convolves it by a kernel."""
    if not hasattr(layer, "kernel_size"):
        return F.linear(F.linear(x, down.flatten(1)), up.flatten(1))
    kernel = down.reshape(len(down), -1, *layer.kernel_size)  # type: ignore[misc]
    # With the layer's own stride and padding, which a host may have changed to tile pictures.
    inner: Tensor = layer._conv_forward(x, kernel, None)  # type: ignore[operator]
    return F.conv2d(inner, up.reshape(-1, len(down), 1, 1))


class Product:
    """The forward hook that adds ``strength * scale * up @ down @ x`` to those ``rows`` of what a layer makes of ``x``.

    Its matrices follow the data; a copy of the layer keeps the hook itself.
    """

    def __init__(self, pair: Pair, strength: Strength, rows: slice = slice(None)) -> None:
        self.pair = pair
        self.strength = strength
        self.rows = rows
        self.matrices = (pair.down, pair.up)

    def __deepcopy__(self, memo: dict[int, Any]) -> Product:
        return self

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = args[0]
        down, up = self._following(x)
        product = multiplied(module, x, down, up)
        strength = self.strength(x)
        if isinstance(strength, Tensor):
            product, strength = product * strength, 1.0
        if self.rows != slice(None):
            product = F.pad(product, (self.rows.start, output.shape[-1] - self.rows.stop))
        return torch.add(output, product.to(output.dtype), alpha=strength * self.pair.scale)

    def _following(self, x: Tensor) -> tuple[Tensor, Tensor]:
        down, up = self.matrices
        if down.requires_grad or up.requires_grad:
            return down.to(x), up.to(x)
        if down.device != x.device or down.dtype != x.dtype:
            with torch.inference_mode(False):  # the scope may outlive the host's inference mode
                self.matrices = (down.to(x), up.to(x))
        return self.matrices
