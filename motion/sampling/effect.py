"""How strongly temporal layers act: on which frames, in which steps, in which blocks and where in the picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from motion import patching
from motion.errors import MotionError
from motion.fields.curve import Value
from motion.fields.curve_text import read_curve
from motion.sampling.arrangement import Arrangement, progress
from motion.sampling.casting import send
from motion.sampling.frame_values import FrameValues, Product, number_of
from motion.sampling.rows import Rows

Factors = tuple[float | Tensor, Tensor | None]
"""What a layer is given: its effect, a number or ``[rows, 1, h, w]``, and the scale of its keys, ``[frames]``."""


@dataclass(frozen=True)
class MotionEffect:
    """How strongly the layers of a motion module act, each number of it a curve where one is given.

    ``effect`` multiplies what the layers add, ``scale`` the keys of their attention (ComfyUI-AnimateDiff-Evolved's
    names). ``blocks`` multiplies the effect in blocks: "down.0", "mid", "up.2", or all of "down" or "up". ``mask
    [1 or frames, h, w]``, from 0 to 1, multiplies it by place: white moves, black stands still. They act from ``start``
    to ``end`` alone. Curves are over ``frames``, the frames of the finished clip; what is drawn behind them goes as the
    last. Their steps, and start and end, are parts of the way from noise (0) to picture (1) in time steps.
    """

    effect: Value = 1.0
    scale: Value = 1.0
    blocks: Mapping[str, Value] = field(default_factory=dict)
    mask: Tensor | None = None
    frames: int = 16
    start: float = 0.0
    end: float = 1.0

    @property
    def always(self) -> bool:
        """Whether they act in all steps."""
        return (self.start, self.end) == (0, 1)


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
        given = effect.effect, effect.scale, *effect.blocks.values()
        self.values = FrameValues(arrangement, effect.frames, given, not effect.always)
        self._masks: dict[Any, Tensor] = {}

    @cached_property
    def acts(self) -> bool:
        """Whether there is anything to do at all."""
        return read_curve(self.effect.effect).constant != 0

    def follow(self, unet: nn.Module) -> patching.Undo:
        """Learn from ``unet`` how far each call is, if that is asked for."""
        unfollow = self.values.follow(unet)
        if self.effect.always:
            return unfollow
        self.arrangement.spans.append(self._covers)

        def undo() -> None:
            self.arrangement.spans.remove(self._covers)
            unfollow()

        return undo

    def on(self, slot: str) -> Callable[[Tensor], Factors]:
        """What the layer of a slot is given for ``[rows, c, h, w]``."""
        names = blocks_of(slot)
        values = self.effect.effect, *(value for name, value in self.effect.blocks.items() if name in names)
        numbers = [number for value in values if not isinstance(number := number_of(value), str)]
        if self.effect.always and self.effect.mask is None and self.effect.scale == 1 and len(numbers) == len(values):
            factors = math.prod(numbers), None
            return lambda x: factors
        return partial(self._factors, values)

    def _covers(self, time: float) -> bool:
        return self.effect.start <= progress(time) <= self.effect.end

    def _factors(self, values: Product, x: Tensor) -> Factors:
        moving = self.arrangement.moving
        if not self.effect.start <= self.values.way <= self.effect.end:
            return 0.0, None
        effect, scale = self.values.of(values, moving), self.values.of((self.effect.scale,), moving)
        scaled = None if set(scale) == {1.0} else self.values.on((self.effect.scale,), moving, x)
        if set(effect) == {0.0}:
            return 0.0, scaled
        if self.effect.mask is None and len(set(effect)) == 1:
            return effect[0], scaled
        factor = self.values.on(values, moving, x)[:, None, None, None]
        masked = factor if self.effect.mask is None else factor * self._mask(self.effect.mask, x)
        return masked.repeat(len(x) // len(effect), 1, 1, 1), scaled

    def _mask(self, mask: Tensor, x: Tensor) -> Tensor:
        """The mask in the size of ``x``, ``[frames that move, 1, h, w]`` or ``[1, 1, h, w]``."""
        key = x.shape[-2:], x.device, x.dtype
        if key not in self._masks:
            with torch.inference_mode(False):  # the scope may outlive the host's inference mode
                small = F.adaptive_avg_pool2d(mask[:, None].float(), (x.shape[-2], x.shape[-1]))
                self._masks[key] = send(small, x.device, x.dtype)
        if len(mask) == 1:
            return self._masks[key]
        return Rows([min(frame, len(mask) - 1) for frame in self.arrangement.moving]).of(self._masks[key])


def blocks_of(slot: str) -> tuple[str, ...]:
    """The names by which users call the block of a slot, the wider first: ("down", "down.0") or ("mid",)."""
    kind, _, rest = slot.partition("_block")
    return (kind, f"{kind}.{rest.split('.')[1]}") if rest.startswith("s.") else (kind,)
