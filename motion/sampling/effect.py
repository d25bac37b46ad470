"""How strongly temporal layers act: on which frames, in which steps, in which blocks and where in the picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from motion import patching
from motion.errors import MotionError
from motion.fields.curve import Value
from motion.fields.curve_text import read_curve
from motion.sampling import unet_call
from motion.sampling.arrangement import Arrangement, progress
from motion.sampling.rows import handed_over
from motion.settings.settings import Movement

Factors = tuple[float | Tensor, Tensor | None]
"""What a layer is given: its effect, a number or ``[rows, 1, h, w]``, and the scale of its keys, ``[frames]``."""


@dataclass(frozen=True)
class MotionEffect:
    """How strongly the layers of a motion module act, each number of it a curve where one is given.

    ``effect`` multiplies what the layers add, ``scale`` the keys of their attention (ComfyUI-AnimateDiff-Evolved's
    names). ``blocks`` multiplies the effect in blocks: "down.0", "mid", "up.2", or all of "down" or "up". ``mask
    [1 or frames, h, w]``, from 0 to 1, multiplies it by place: white moves, black stands still. Curves are over
    ``frames``, the frames of the finished clip; what is drawn behind them goes as the last. Their steps are parts of
    the way from noise (0) to picture (1) in time steps.
    """

    effect: Value = 1.0
    scale: Value = 1.0
    blocks: Mapping[str, Value] = field(default_factory=dict)
    mask: Tensor | None = None
    frames: int = 16

    @classmethod
    def of(cls, settings: Movement) -> MotionEffect:
        """As the settings of a clip say."""
        return cls(settings.scale, settings.attention_scale, frames=settings.frames)


class EffectOfCalls:
    """A `MotionEffect` in calls of a UNet with layers in these ``slots``.

    Raises MotionError for keys of curves that are not in the clip, and for blocks that are not in the UNet.
    """

    def __init__(self, effect: MotionEffect, arrangement: Arrangement, slots: Iterable[str]) -> None:
        names = list(dict.fromkeys(name for slot in slots for name in blocks_of(slot)))
        if odd := [name for name in effect.blocks if name not in names]:
            raise MotionError(f"{odd[0]} is no block with temporal layers here: choose from {', '.join(names)}")
        self.effect = effect
        self.arrangement = arrangement
        self.curves = [read_curve(value) for value in (effect.effect, effect.scale, *effect.blocks.values())]
        for curve in self.curves:
            curve.at(effect.frames)  # says what is not in the clip
        self.way = 0.0
        """How far the call in progress is from noise (0) to picture (1), if a curve is over steps."""
        self._values: dict[Any, tuple[float, ...]] = {}
        self._tensors: dict[Any, Tensor] = {}

    @cached_property
    def acts(self) -> bool:
        """Whether there is anything to do at all."""
        return read_curve(self.effect.effect).constant != 0

    def follow(self, unet: nn.Module) -> patching.Undo:
        """Learn from ``unet`` how far each call is, if that is asked for: to read it may be to wait for a device."""
        if not any(curve.over_steps for curve in self.curves):
            return lambda: None
        return patching.before(unet, self._begin, with_kwargs=True)

    def on(self, slot: str) -> Callable[[Tensor], Factors]:
        """What the layer of a slot is given for ``[rows, c, h, w]``."""
        names = blocks_of(slot)
        values = self.effect.effect, *(value for name, value in self.effect.blocks.items() if name in names)
        numbers = [number for value in values if (number := read_curve(value).constant) is not None]
        if self.effect.mask is None and self.effect.scale == 1 and len(numbers) == len(values):
            factors = math.prod(numbers), None
            return lambda x: factors
        return partial(self._factors, values)

    def _begin(self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        way = progress(self.arrangement.time(unet_call.time(args, kwargs)) or 0.0)
        if way != self.way:
            self.way = way
            self._values.clear()
            self._tensors.clear()

    def _factors(self, values: tuple[Value, ...], x: Tensor) -> Factors:
        effect = self._of_frames(values)
        scale = self._of_frames((self.effect.scale,))
        scaled = None if set(scale) == {1.0} else self._on(scale, x)
        if set(effect) == {0.0}:
            return 0.0, scaled
        if self.effect.mask is None and len(set(effect)) == 1:
            return effect[0], scaled
        factor = self._on(effect, x)[:, None, None, None]
        masked = factor if self.effect.mask is None else factor * self._mask(self.effect.mask, x)
        return masked.repeat(len(x) // len(effect), 1, 1, 1), scaled

    def _of_frames(self, values: tuple[Value, ...]) -> tuple[float, ...]:
        """The product of the values of each frame that moves in the call."""
        key = values, self.arrangement.moving
        if key not in self._values:
            curves = [read_curve(value).at(self.effect.frames, self.way) for value in values]
            last = self.effect.frames - 1
            places = [min(frame, last) for frame in self.arrangement.moving]
            self._values[key] = tuple(math.prod(curve[place] for curve in curves) for place in places)
        return self._values[key]

    def _on(self, values: tuple[float, ...], x: Tensor) -> Tensor:
        key = values, x.device, x.dtype
        if key not in self._tensors:
            self._tensors[key] = handed_over(values, x.device, x.dtype)
        return self._tensors[key]

    def _mask(self, mask: Tensor, x: Tensor) -> Tensor:
        """The mask in the size of ``x``, ``[frames that move, 1, h, w]`` or ``[1, 1, h, w]``."""
        frames = () if len(mask) == 1 else self.arrangement.moving
        key = "mask", frames, x.shape[-2:], x.device, x.dtype
        if key not in self._tensors:
            shown = mask[[min(frame, len(mask) - 1) for frame in frames]] if frames else mask
            resized = F.adaptive_avg_pool2d(shown[:, None].float(), (x.shape[-2], x.shape[-1]))
            self._tensors[key] = resized.to(x.device, x.dtype)
        return self._tensors[key]


def blocks_of(slot: str) -> tuple[str, ...]:
    """The names by which users call the block of a slot, the wider first: ("down", "down.0") or ("mid",)."""
    kind, _, rest = slot.partition("_block")
    return (kind, f"{kind}.{rest.split('.')[1]}") if rest.startswith("s.") else (kind,)
