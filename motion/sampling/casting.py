"""What goes to the device of the data: layers that run there in its dtype, and numbers that are made on the CPU."""

from __future__ import annotations

import copy
from array import array
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import accumulate
from threading import Lock
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

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


def send(x: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """``x`` on ``device`` and in ``dtype`` (None: its own). A GPU is sent it from pinned memory, and not waited for."""
    if device.type != "cuda" or x.device.type != "cpu":
        return x.to(device, dtype)
    return x.to(dtype).pin_memory().to(device, non_blocking=True)


Ahead = Callable[[], Iterable[Sequence[float]]]
"""Foresees numbers that are to come."""


def handed_over(values: Sequence[float], device: torch.device, dtype: torch.dtype, ahead: Ahead = tuple) -> Tensor:
    """``values`` as a tensor on ``device``, which is not waited for. It is not to be written to: the same values are
    sent once, and in one piece with them what ``ahead`` foresees, which is asked only then."""
    return _HANDED.over(values, device, dtype, ahead)


class _Handed:
    """What has been handed over, of ``most`` numbers the newest."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0
        self.found: OrderedDict[Any, Tensor] = OrderedDict()
        self.lock = Lock()

    def over(self, values: Sequence[float], device: torch.device, dtype: torch.dtype, ahead: Ahead) -> Tensor:
        key = _bytes(values), device, dtype
        with self.lock:
            if key not in self.found:
                self._send([values, *(ahead() if device.type != "cpu" else ())], device, dtype)
            self.found.move_to_end(key)
            return self.found[key]

    def _send(self, wanted: Sequence[Sequence[float]], device: torch.device, dtype: torch.dtype) -> None:
        """The first of them, and of the others what is new and has room."""
        new = {key: values for values in wanted if (key := (_bytes(values), device, dtype)) not in self.found}
        ends = accumulate(map(len, new.values()))
        fitting = [key for key, end in zip(new, ends, strict=True) if end <= self.most or key[0] == _bytes(wanted[0])]
        with torch.inference_mode(False):  # they outlive the host's inference mode
            flat = send(torch.tensor([value for key in fitting for value in new[key]], dtype=dtype), device)
            self.found.update(zip(fitting, torch.split(flat, [len(new[key]) for key in fitting]), strict=True))
        self.count += len(flat)
        while self.count > self.most and len(self.found) > len(fitting):
            self.count -= len(self.found.popitem(last=False)[1])


def _bytes(values: Sequence[float]) -> bytes:
    return array("d", values).tobytes()


_HANDED = _Handed(2**20)
