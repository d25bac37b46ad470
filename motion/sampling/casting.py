"""Layers that run in the device and dtype of the data they are given."""

from __future__ import annotations

import copy
from collections import defaultdict
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from motion.sampling.rows import send

T = TypeVar("T", bound=nn.Module)
AUTOCASTING = ("cpu", "cuda")
"""Devices whose autocast every torch knows."""


class CastModule:
    """Runs ``module`` for data of any device and dtype; ``module`` itself is neither moved nor cast.

    Where they are its own it runs as it is, else as a copy that follows the data and lives as long as the follower.
    A module that is being trained is cast within the graph instead, so gradients reach it. Nothing is cast a second
    time where the data comes out of `torch.autocast`, as in AUTOMATIC1111: norms would leave float32 for each layer
    behind them to cast again.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = self._copy = module

    def __call__(self, x: Tensor, *args: Any) -> Any:
        """``module(x, *args)`` in the device and dtype of ``x``."""
        with _no_autocast(x):
            if self.is_trained and _differs(self.module, x):
                weights = {name: weight.to(x) for name, weight in self.module.named_parameters()}
                return functional_call(self.module, weights, (x, *args))
            return self._following(x)(x, *args)

    @property
    def is_trained(self) -> bool:
        """Whether gradients may reach the module now."""
        return torch.is_grad_enabled() and any(weight.requires_grad for weight in self.module.parameters())

    def _following(self, x: Tensor) -> nn.Module:
        if not _differs(self.module, x):
            return self.module
        if _differs(self._copy, x):
            # Plain tensors even when the host samples in inference mode: the scope may outlive that.
            with torch.inference_mode(False), torch.no_grad():
                self._copy = copied(self.module, x.device, x.dtype)
        return self._copy


def copied(module: T, device: torch.device, dtype: torch.dtype, stored: torch.dtype | None = None) -> T:
    """A frozen copy of ``module`` on ``device`` in ``dtype``, its matrices in eight bits as ``stored`` says.

    The numbers of a dtype lie behind one another: they go there in one transfer.
    """
    found: dict[torch.dtype, list[Tensor]] = defaultdict(list)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            is_matrix = isinstance(tensor, nn.Parameter) and tensor.ndim > 1
            found[stored if stored is not None and is_matrix else dtype].append(tensor)
    moved = {}
    for kind, tensors in found.items():
        flat = send(torch.cat([tensor.detach().to(kind).flatten() for tensor in tensors]), device)
        for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            part = part.view(tensor.shape)
            moved[id(tensor)] = nn.Parameter(part, False) if isinstance(tensor, nn.Parameter) else part
    made: T = copy.deepcopy(module, moved)
    return made.to(device)


def is_stored(module: nn.Module) -> bool:
    """Whether ``module`` is such a copy, which computes with matrices that are stored in eight bits."""
    return {parameter.dtype.itemsize == 1 for parameter in module.parameters()} == {True, False}


def _no_autocast(x: Tensor) -> AbstractContextManager[Any]:
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if kind in AUTOCASTING else nullcontext()


def _differs(module: nn.Module, x: Tensor) -> bool:
    weight = next(module.parameters())
    return weight.device != x.device or weight.dtype != x.dtype
