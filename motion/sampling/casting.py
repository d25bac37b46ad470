"""Layers that run in the device and dtype of the data they are given."""

from __future__ import annotations

import copy
from operator import is_not
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


class CastModule:
    """Runs ``module`` for data of any device and dtype; ``module`` itself is neither moved nor cast.

    Where they are its own it runs as it is, else as a copy that follows the data and lives as long as the follower.
    A module that is being trained is cast within the graph instead, so gradients reach it. Where the module's
    parameters become others, as under a motion LoRA, it is copied anew.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = self._copy = module
        self._copied: list[nn.Parameter] = []

    def __call__(self, x: Tensor, *args: Any) -> Any:
        """``module(x, *args)`` in the device and dtype of ``x``."""
        if not _differs(self.module, x):
            return self.module(x, *args)
        if torch.is_grad_enabled() and any(weight.requires_grad for weight in self.module.parameters()):
            weights = {name: weight.to(x) for name, weight in self.module.named_parameters()}
            return functional_call(self.module, weights, (x, *args))
        return self._following(x)(x, *args)

    def _following(self, x: Tensor) -> nn.Module:
        weights = list(self.module.parameters())
        outdated = len(self._copied) != len(weights) or any(map(is_not, self._copied, weights))
        if outdated or _differs(self._copy, x):
            # Plain tensors even when the host samples in inference mode: the scope may outlive that.
            with torch.inference_mode(False), torch.no_grad():
                self._copy = copy.deepcopy(self.module).requires_grad_(False).to(x)
            self._copied = weights
        return self._copy


def _differs(module: nn.Module, x: Tensor) -> bool:
    weight = next(module.parameters())
    return weight.device != x.device or weight.dtype != x.dtype
