"""A GPU that is not there: tensors that say they are on "cuda:0" and hold their numbers on the CPU.

What CUDA refuses is refused: operands on two devices (numbers without dimensions may come from the CPU), and products,
convolutions, attention and norms of two dtypes. Each transfer, and each wait for the device, is noted with the line
that asks for it.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("cuda", 0)
CPU = torch.device("cpu")
aten = torch.ops.aten

OF_ONE_DTYPE = {
    *(aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.linear, aten.convolution, aten.native_layer_norm),
    *(
        aten.native_group_norm,
        aten._scaled_dot_product_flash_attention_for_cpu,
        aten._scaled_dot_product_attention_math,
    ),
}
WAITING = {aten._local_scalar_dense, aten.is_nonzero, aten.equal, aten.nonzero, aten.masked_select, aten._unique2}
"""What a program can go on behind only when the device has told it numbers."""
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}
"""What takes its indices from the CPU, too, and sends them."""
COPYING = {aten.copy_, aten._foreach_copy_}
"""What writes into tensors of other devices."""
ACROSS = {aten._to_copy, aten._has_compatible_shallow_copy_type}
"""What takes tensors of several devices."""
OWN = (Path(torch.__file__).parent.as_posix(), Path(__file__).as_posix(), "<")
"""How files begin whose lines ask for nothing by themselves."""


class Event(NamedTuple):
    """Something that a program asks of the device beside computing."""

    kind: str
    """"to device", "to host" or "wait"."""
    size: int
    """Bytes."""
    line: str


@dataclass
class SimulatedGpu:
    """What has been asked of it."""

    events: list[Event] = field(default_factory=list)

    def note(self, kind: str, tensor: Tensor) -> None:
        self.events.append(Event(kind, tensor.nbytes, _line()))

    def since(self, mark: int) -> Counter[str]:
        """How many of each kind there have been behind so many."""
        return Counter(event.kind for event in self.events[mark:])


class SimulatedTensor(Tensor):
    """A tensor of the device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> SimulatedTensor:
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        with torch.inference_mode(False):
            made = Tensor._make_wrapper_subclass(cls, held.shape, device="cpu", **layout)
        made.held = held
        return made

    def __repr__(self, **_: Any) -> str:
        return f"SimulatedTensor({tuple(self.shape)}, {self.dtype})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        """A file is written by the host."""
        _gpus[-1].note("to host", self)
        return self.held.__reduce_ex__(protocol)

    @classmethod
    def __torch_function__(cls, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if call in ATTRIBUTES:
            return ATTRIBUTES[call]
        if call is Tensor.data.__get__:
            return args[0].detach()
        if call is Tensor.numpy:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if call is Tensor.tolist:
            return _copied(args[0], CPU, args[0].dtype).tolist()
        return super().__torch_function__(call, types, args, kwargs)

    @classmethod
    def __torch_dispatch__(cls, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(call, args, kwargs or {})


ATTRIBUTES = {Tensor.device.__get__: DEVICE, Tensor.is_cuda.__get__: True, Tensor.is_cpu.__get__: False}
_gpus: list[SimulatedGpu] = []


@contextmanager
def simulated_gpu() -> Iterator[SimulatedGpu]:
    """Within, torch has a CUDA device."""
    gpu = SimulatedGpu()
    swaps = torch.__future__.get_overwrite_module_params_on_conversion()
    with pytest.MonkeyPatch.context() as patch, _Calls():
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "device_count", lambda: 1)
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        _gpus.append(gpu)
        try:
            yield gpu
        finally:
            _gpus.pop()
            torch.__future__.set_overwrite_module_params_on_conversion(swaps)


class _Calls(TorchFunctionMode):
    """Moves tensors to the device, and makes those that are asked for there."""

    def __torch_function__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if call is torch.as_tensor and isinstance(args[0], Tensor):
            call = Tensor.to
        if call in (Tensor.to, Tensor.cuda, Tensor.cpu):
            device, dtype, copy = _destination(call, args, kwargs)
            return _Moved.apply(args[0], device, dtype, copy) if _moves(args[0], device, dtype, copy) else args[0]
        if call is Tensor.pin_memory:
            return args[0]
        device = kwargs.get("device")
        if device is None or torch.device(device).type != DEVICE.type or _on_device((args, kwargs)):
            return call(*args, **kwargs)
        made = call(*args, **kwargs | {"device": CPU})
        if call in (torch.tensor, torch.as_tensor):
            _gpus[-1].note("to device", made)
        return SimulatedTensor(made)


class _Moved(torch.autograd.Function):
    """A copy on another device or of another dtype, through which gradients come back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, device: torch.device, dtype: torch.dtype, copy: bool) -> Tensor:
        ctx.came_from = x.device, x.dtype
        return _copied(x, device, dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _copied(gradients[0], *ctx.came_from), None, None, None


def _destination(call: Any, args: Any, kwargs: Mapping[str, Any]) -> tuple[torch.device, torch.dtype, bool]:
    """Where `Tensor.to`, `cuda` or `cpu` is asked to bring its first argument, and whether a copy is asked for."""
    device, dtype = args[0].device, args[0].dtype
    if call is not Tensor.to:
        return (DEVICE if call is Tensor.cuda else CPU), dtype, False
    for asked in (*args[1:], kwargs.get("other"), kwargs.get("device"), kwargs.get("dtype")):
        if isinstance(asked, Tensor):
            device, dtype = asked.device, asked.dtype
        elif isinstance(asked, torch.dtype):
            dtype = asked
        elif isinstance(asked, (str, torch.device)):
            device = torch.device(asked)
    return device, dtype, bool(kwargs.get("copy"))


def _moves(x: Tensor, device: torch.device, dtype: torch.dtype, copy: bool) -> bool:
    return copy or x.device.type != device.type or x.dtype != dtype


def _copied(x: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    here, there = isinstance(x, SimulatedTensor), device.type == DEVICE.type
    if here != there:
        _gpus[-1].note("to device" if there else "to host", x)
    held = x.held if isinstance(x, SimulatedTensor) else x.detach()
    made = held.to(dtype, copy=True)
    return SimulatedTensor(made) if there else made


def _computed(call: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What the device makes of a call of one of torch's own operators."""
    operator, tensors = call.overloadpacket, [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    if operator in COPYING:
        several = operator is not aten.copy_
        for target, source in zip(args[0], args[1], strict=True) if several else [args[:2]]:
            there, here = isinstance(target, SimulatedTensor), isinstance(source, SimulatedTensor)
            if source.ndim and there != here:  # a number that is written at an index is filled in there
                _gpus[-1].note("to device" if there else "to host", source)
    elif operator in INDEXING:
        _check_indices(args[0], [index for index in args[1] if index is not None])
    elif operator not in ACROSS:
        _check_devices(call, tensors)
    if operator in OF_ONE_DTYPE:
        _check_dtypes(call, tensors)
    if operator in WAITING:
        _gpus[-1].note("wait", tensors[0])
    if "device" in kwargs:
        kwargs = kwargs | {"device": CPU}
    found = call(*tree_map(_held, args), **tree_map(_held, kwargs))
    if call._schema.is_mutable:  # the tensors that were given have changed
        return kwargs.get("out", args[0] if isinstance(args[0], Tensor) else None)
    return tree_map(lambda leaf: SimulatedTensor(leaf) if isinstance(leaf, Tensor) else leaf, found)


def _held(leaf: Any) -> Any:
    return leaf.held if isinstance(leaf, SimulatedTensor) else leaf


def _on_device(tree: Any) -> bool:
    return any(isinstance(leaf, SimulatedTensor) for leaf in tree_leaves(tree))


def _check_devices(call: Any, tensors: list[Tensor]) -> None:
    apart = [tuple(x.shape) for x in tensors if x.ndim and not isinstance(x, SimulatedTensor)]
    if apart:
        raise RuntimeError(f"{call}: all tensors must be on one device, and {apart} are on cpu at {_line()}")


def _check_indices(x: Tensor, indices: list[Tensor]) -> None:
    """A mask that indexes is waited for."""
    for index in indices:
        if not isinstance(x, SimulatedTensor):
            raise RuntimeError(f"indices of a tensor on the CPU are on {index.device} at {_line()}")
        if not isinstance(index, SimulatedTensor):
            _gpus[-1].note("to device", index)
        if index.dtype == torch.bool:
            _gpus[-1].note("wait", index)


def _check_dtypes(call: Any, tensors: list[Tensor]) -> None:
    if len({x.dtype for x in tensors if x.is_floating_point()}) > 1:
        shown = [(tuple(x.shape), x.dtype) for x in tensors]
        raise RuntimeError(f"{call}: all tensors must be of one dtype: {shown} at {_line()}")


def _line() -> str:
    """The line of a program, not of torch's own, that is being run."""
    frame: Any = sys._getframe(1)
    while frame is not None and Path(frame.f_code.co_filename).as_posix().startswith(OWN):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "?"
