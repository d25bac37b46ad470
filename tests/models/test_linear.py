"""Our linear layer is torch's, to rounding, with and without gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from motion.models.motion.linear import Linear, linear
from tests.support.small import far


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (3, 16), (7, 5, 16, 24)])
def test_it_agrees_with_torch(shape: tuple[int, ...], bias: bool) -> None:
    x, weight = torch.randn(*shape, 32), torch.randn(48, 32)
    offset = torch.randn(48) if bias else None
    exact = F.linear(x.double(), weight.double(), None if offset is None else offset.double())
    with torch.no_grad():
        assert far(linear(x, weight, offset).double(), exact) <= 1e-6
    assert far(linear(x, weight, offset).double(), exact) <= 1e-6


def test_strided_input() -> None:
    x, weight = torch.randn(6, 32, 5).transpose(1, 2), torch.randn(8, 32)
    with torch.inference_mode():
        assert far(linear(x, weight), F.linear(x, weight)) <= 1e-6


def test_gradients_reach_weight_bias_and_input() -> None:
    layer = Linear(4, 3)
    x: Tensor = torch.randn(2, 4, requires_grad=True)
    layer(x).sum().backward()
    assert all(tensor.grad is not None and tensor.grad.any() for tensor in (x, layer.weight, layer.bias))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    layer, x = Linear(8, 8).to(dtype), torch.randn(3, 8, dtype=dtype)
    with torch.no_grad():
        assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))
