"""Rows of a batch: taken out of all that a UNet is called with, and what was made of them put together again.

Nothing here waits for a device, and little is sent to it: rows are counted where they are taken, and numbers that are
made on the CPU are handed over once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from motion.sampling.casting import Ahead, handed_over

T = TypeVar("T")
OPTIONS = "transformer_options"
"""The argument in which ldm_patched's and Forge's UNets are told what the host and its extensions want of a call."""
ROW_NUMBERS = ("cond_indices", "uncond_indices")
"""Options that name rows of the batch."""
OF_ALL_STEPS = ("sample_sigmas", "sampling_sigmas")
"""Options that hold a row for each step of the schedule: as many as the batch's by chance alone."""
OF_ONE_PROMPT = ("sigmas",)
"""Options that hold a row for each row of one prompt's part of the batch."""


@runtime_checkable
class Deferred(Protocol):
    """What stands among a UNet's arguments for something that is made for the rows of a call when it is made."""

    def of_rows(self, rows: Rows) -> Any:
        """What the call that has these rows is given."""


class Rows:
    """Numbers of rows, in the order in which they are wanted."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self.numbers = list(numbers)
        self._on: dict[torch.device, Tensor] = {}

    def on(self, device: torch.device) -> Tensor:
        """The numbers as an index, int64 ``[rows]``, on that device."""
        if device not in self._on:
            parts = [
                torch.arange(numbers.start, numbers.stop, numbers.step, device=device)
                for numbers in stretches(self.numbers)
            ]
            self._on[device] = torch.cat(parts) if parts else torch.arange(0, device=device)
        return self._on[device]

    def of(self, x: Tensor) -> Tensor:
        """These rows of ``x``, laid out as it is."""
        return laid_out_as_given(x, lambda x: x.index_select(0, self.on(x.device)))

    def __reduce__(self) -> tuple[type[Rows], tuple[list[int]]]:
        return Rows, (self.numbers,)  # to another process, whose devices are its own


def stretches(numbers: Sequence[int]) -> Iterator[range]:
    """``numbers``, in their order, as ranges."""
    begin = 0
    while begin < len(numbers):
        end, step = begin + 1, 1
        if end < len(numbers) and numbers[end] != numbers[begin]:
            step = numbers[end] - numbers[begin]
            while end < len(numbers) and numbers[end] - numbers[end - 1] == step:
                end += 1
        yield range(numbers[begin], numbers[end - 1] + (1 if step > 0 else -1), step)
        begin = end


def is_channels_last(x: Tensor) -> bool:
    """Whether these are pictures whose channels lie side by side."""
    return x.ndim == 4 and x.stride(1) == 1 < x.stride(3)


def zeros(rows: int, row: torch.Size, dtype: torch.dtype, device: torch.device, channels_last: bool) -> Tensor:
    """So many rows of that shape."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(rows, *row, dtype=dtype, device=device, memory_format=layout).zero_()


def laid_out_as_given(x: Tensor, cut: Callable[[Tensor], Tensor]) -> Tensor:
    """What ``cut`` makes of the rows of ``x``: what it copies is else laid out as torch lays out new tensors."""
    return cut(x.movedim(1, -1)).movedim(-1, 1) if is_channels_last(x) else cut(x)


def take_rows(tree: T, rows: Rows | slice, batch: int) -> T:
    """``tree`` with those rows of every tensor that has ``batch`` of them, in that order."""

    def take(leaf: object) -> object:
        if isinstance(leaf, Tensor) and leaf.ndim and len(leaf) == batch:
            return leaf[rows] if isinstance(rows, slice) else rows.of(leaf)
        return leaf.of_rows(rows) if isinstance(leaf, Deferred) and isinstance(rows, Rows) else leaf

    result: T = tree_map(take, tree)
    return result


def take_call(args: tuple[Any, ...], kwargs: Mapping[str, Any], rows: Rows, batch: int) -> tuple[Any, dict[str, Any]]:
    """The arguments of a UNet's call with ``batch`` rows as those of a call with ``rows`` alone."""
    others = {name: value for name, value in kwargs.items() if name != OPTIONS}
    args, taken = take_rows((args, others), rows, batch)
    if OPTIONS in kwargs:
        taken[OPTIONS] = take_options(kwargs[OPTIONS], rows, batch)
    return args, taken


def settle(kwargs: Mapping[str, Any], rows: Rows) -> dict[str, Any] | None:
    """The arguments of a call that has all its ``rows``, with what is `Deferred` made for them; None if nothing is."""
    made = {name: value.of_rows(rows) for name, value in kwargs.items() if isinstance(value, Deferred)}
    return {**kwargs, **made} if made else None


def take_options(options: Mapping[str, Any], rows: Rows, batch: int) -> dict[str, Any]:
    """`transformer_options` of a call with ``batch`` rows as those of a call with ``rows`` alone.

    What the hosts put there is known by name; tensors of extensions are told by their number of rows.
    """
    return {name: _take_option(name, value, rows, batch) for name, value in options.items()}


def _take_option(name: str, value: Any, rows: Rows, batch: int) -> Any:
    if name in OF_ALL_STEPS:
        return value
    if name in ROW_NUMBERS:
        return _places(value, rows)
    if name in OF_ONE_PROMPT and isinstance(value, Tensor) and value.ndim:
        mine = [row for row in rows.numbers if row < len(value)]
        return Rows(mine).of(value) if len(value) > 1 and batch % len(value) == 0 else value
    return take_rows(value, rows, batch)


def _places(numbers: Any, rows: Rows) -> Any:
    """Where the rows with those ``numbers`` are among ``rows``: a list, or a tensor where the numbers are one."""
    wanted = set(numbers.tolist() if isinstance(numbers, Tensor) else numbers)
    places = [place for place, row in enumerate(rows.numbers) if row in wanted]
    return handed_over(places, numbers.device, numbers.dtype) if isinstance(numbers, Tensor) else places


def in_parts(call: Callable[..., Any], asked: Callable[[], int | None]) -> Callable[..., Any]:
    """``call`` on at most as many rows of its first argument at a time as is ``asked`` (None: all), and of all tensors
    that have as many."""

    def parted(*args: Any, **kwargs: Any) -> Any:
        batch, most = len(args[0]), asked()
        if most is None or batch <= most:
            return call(*args, **kwargs)
        inputs = [take_rows((args, kwargs), slice(at, at + most), batch) for at in range(0, batch, most)]
        flat, shapes = zip(*(tree_flatten(call(*args, **kwargs)) for args, kwargs in inputs), strict=True)
        return tree_unflatten([torch.cat(leaves) for leaves in zip(*flat, strict=True)], shapes[0])

    return parted


Part = tuple[Rows, list[Tensor | None]]
"""What one call adds to an `Average`: its rows, and for each leaf of its output the rows by their shares."""


class Average:
    """The ``batch`` rows put together again, on ``device``, from calls that had some of them each.

    ``ahead`` foresees shares that are to come."""

    def __init__(self, batch: int, device: torch.device, last: Any = None, ahead: Ahead = tuple) -> None:
        self.batch, self.device = batch, device
        self.ahead = ahead
        self.last = last
        """The newest call's output; what of it is no tensor of rows counts for all."""
        self.sums: list[Tensor | None] = []

    def add(self, output: Any, rows: Rows, shares: Sequence[float]) -> None:
        """Count the tensors of ``output`` in, which have ``rows``; see `part`."""
        self.add_part(self.part(output, rows, shares))

    def part(self, output: Any, rows: Rows, shares: Sequence[float], of_each: int | None = None) -> Part:
        """The tensors of ``output`` that have ``rows``, by the ``shares`` of the first of each ``of_each`` of them, of
        which the others count nothing (None: there are none)."""
        self.last = output
        parts: list[Tensor | None] = []
        for leaf in tree_flatten(output)[0]:
            if not (isinstance(leaf, Tensor) and leaf.ndim and len(leaf) == len(rows.numbers)):
                parts.append(None)
                continue
            exact = leaf.to(self.device, torch.promote_types(leaf.dtype, torch.float32))
            counted = handed_over(shares, exact.device, exact.dtype, self.ahead)
            counted = F.pad(counted, (0, (of_each or len(shares)) - len(shares)))
            counted = counted.repeat(len(leaf) // len(counted))
            parts.append(exact * counted.view(-1, *[1] * (leaf.ndim - 1)))
        return rows, parts

    def add_part(self, part: Part) -> None:
        """Count a part in. Sums depend in their last digits on the order in which this is done."""
        rows, parts = part
        self.sums = self.sums or [None] * len(parts)
        for number, found in enumerate(parts):
            if found is not None:
                total = self.sums[number]
                total = found.new_zeros(self.batch, *found.shape[1:]) if total is None else total
                self.sums[number] = total.index_add_(0, rows.on(self.device), found)

    def result(self) -> Any:
        """An output like each call's, with the averages in it."""
        leaves, shape = tree_flatten(self.last)
        pairs = zip(leaves, self.sums, strict=True)
        return tree_unflatten([leaf if total is None else total.to(leaf.dtype) for leaf, total in pairs], shape)
