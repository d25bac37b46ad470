"""Values that change over frames and steps, in the calls of a UNet: what each row of a layer's input is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from motion import patching
from motion.fields.curve import Value
from motion.fields.curve_text import read_curve
from motion.sampling import unet_call
from motion.sampling.arrangement import Arrangement, progress
from motion.sampling.casting import handed_over
from motion.sampling.windows import Window

Product = tuple[Value, ...]
"""Values that are multiplied with each other."""


class FrameValues:
    """Numbers and curves over the ``frames`` of the finished clip, for the frames of a call; what is drawn behind them
    goes as the last. Steps are parts of the way from noise (0) to picture (1) in time steps.

    Raises MotionError for keys that are not in the clip.
    """

    def __init__(
        self, arrangement: Arrangement, frames: int, values: Iterable[Value], over_steps: bool = False
    ) -> None:
        self.arrangement = arrangement
        self.frames = frames
        curves = [read_curve(value) for value in values]
        for curve in curves:
            curve.at(frames)  # says what is not in the clip
        self.over_steps = over_steps or any(curve.over_steps for curve in curves)
        self.way = 0.0
        """How far the call in progress is, if that is asked for."""
        self.batch = 0
        """Rows of the call in progress, of a UNet that is followed by its rows."""
        self._numbers: dict[Any, tuple[float, ...]] = {}
        self._tensors: dict[Any, Tensor] = {}

    def follow(self, unet: nn.Module, rows: bool = False) -> patching.Undo:
        """Learn from ``unet`` how far each call is, if that is asked for: to read it may be to wait for a device. And
        of how many ``rows``."""
        if not (self.over_steps or rows):
            return lambda: None
        return patching.before(unet, self._begin, with_kwargs=True)

    def of(self, product: Product, frames: Window) -> tuple[float, ...]:
        """The product of the values in each of those frames."""
        key = product, frames
        if key not in self._numbers:
            curves = [read_curve(value).at(self.frames, self.way) for value in product]
            places = [min(frame, self.frames - 1) for frame in frames]
            self._numbers[key] = tuple(math.prod(curve[place] for curve in curves) for place in places)
        return self._numbers[key]

    def on(self, product: Product, frames: Window, x: Tensor, joined: bool = False) -> Tensor:
        """`of` in the device and dtype of ``x``; the frames are of a window, or of several ``joined``."""

        def coming(windows: list[Window], *_: float) -> list[tuple[float, ...]]:
            shown = [tuple(chain(*windows))] if joined else windows
            return [] if self.over_steps else [self.of(product, window) for window in shown]

        ahead = partial(self.arrangement.ahead, f"values {product}", self.arrangement.windows, coming)
        numbers = self.of(product, frames)
        return self.kept(numbers, x, lambda: handed_over(numbers, x.device, x.dtype, ahead))

    def kept(self, what: Any, x: Tensor, make: Callable[[], Tensor]) -> Tensor:
        """What ``make`` has made for the device and dtype of ``x`` under this name, once in a step."""
        key = what, x.device, x.dtype
        if key not in self._tensors:
            with torch.inference_mode(False):  # the scope may outlive the host's inference mode
                self._tensors[key] = make()
        return self._tensors[key]

    def of_rows(self, value: Value, x: Tensor) -> Tensor:
        """The value of each row of ``x``, ``[rows, 1, ...]``: a layer of the UNet may be given those of the call, or
        several parts of each."""
        together, parts = self.arrangement.together, len(x) // self.batch
        numbers = self.of((value,), together)

        def rows() -> Tensor:
            of_call = self.on((value,), together, x).repeat(self.batch // len(together))
            return of_call.repeat_interleave(parts)

        found = self.kept(("rows", numbers, self.batch, parts), x, rows)
        return found.reshape(-1, *[1] * (x.ndim - 1))

    def along_frames(self, value: Value, x: Tensor) -> Tensor:
        """The value of each frame of a temporal layer's ``x [n, f, c]``, ``[n or 1, f, 1]``, or of each of its windows'
        or views where these are cut, ``[(n windows), length, c]``."""
        moving = self.arrangement.moving
        if x.shape[1] == len(moving):
            return self.on((value,), moving, x)[None, :, None]
        windows = [window for window, _ in self.arrangement.groups]
        of_windows = self.on((value,), tuple(chain(*windows)), x, joined=True).view(len(windows), -1)
        return of_windows.repeat(len(x) // len(windows), 1)[..., None]

    def _begin(self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.batch = unet_call.batch(args, kwargs)
        way = progress(self.arrangement.time(unet_call.time(args, kwargs)) or 0.0) if self.over_steps else 0.0
        if way != self.way:
            self.way = way
            self._numbers.clear()
            self._tensors.clear()


def number_of(value: Value) -> Value:
    """``value``, or the number that its curve is everywhere."""
    number = read_curve(value).constant
    return value if number is None else number
