"""How an encoder is to act, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from motion.errors import MotionError
from motion.fields.curve import Curve, Value
from motion.fields.curve_text import read_curve
from motion.sampling.arrangement import progress


@dataclass(frozen=True)
class Influence:
    """How strong an encoder acts, and when.

    ``scale`` multiplies its residuals, a curve over ``frames`` those of each frame (what is drawn behind them goes as
    the last), ``on_keys`` those of frames with a key besides and ``off_keys`` those of the others. It acts on passes
    from ``start`` to ``end`` of the way from noise (0) to picture (1) in time steps, which are the steps of samplers
    that space them evenly. ``nearest``: a window without a key is given the nearest one. ``blocks`` multiplies each
    residual by its own factor, from the outside in and the middle's last; none at all: all are 1. ``motion`` multiplies
    what the encoder's own temporal layers add. ``keys`` multiplies the images and masks of frames with a key by a curve
    over steps each; where all keys come to 0 the encoder stands aside.
    """

    scale: Value = 1.0
    on_keys: float = 1.0
    off_keys: float = 1.0
    start: float = 0.0
    end: float = 1.0
    nearest: bool = True
    frames: int = 1
    blocks: Sequence[float] = ()
    motion: float = 1.0
    keys: Mapping[int, Value] = field(default_factory=dict)

    @property
    def always(self) -> bool:
        """Whether it acts on all unet_call."""
        return (self.start, self.end) == (0, 1)

    @property
    def needs_time(self) -> bool:
        """Whether it must be known how far a pass is."""
        return not self.always or self.over_steps

    @property
    def over_steps(self) -> bool:
        """Whether it changes from step to step."""
        return self.curve.over_steps or bool(self.keys)

    @property
    def curve(self) -> Curve:
        """The scale."""
        return read_curve(self.scale)

    @property
    def is_zero(self) -> bool:
        """Whether nothing can come of it."""
        no_block = bool(self.blocks) and not any(self.blocks)
        return no_block or self.curve.constant == 0 or self.on_keys == self.off_keys == 0

    def covers(self, time: float) -> bool:
        """Whether the encoder acts on a pass at that time step."""
        inside = self.always or self.start <= progress(time) <= self.end
        return inside and (not self.curve.over_steps or any(self.curve.at(self.frames, progress(time))))

    def strengths(self, keys: Sequence[int], time: float) -> tuple[float, ...]:
        """The strength of those frames with a key, besides that in the condition, on a pass at that time step."""
        way = progress(time)
        return tuple(read_curve(self.keys[key]).at(self.frames, way)[key] if key in self.keys else 1.0 for key in keys)

    def scales(self, frames: Sequence[int], time: float) -> list[float]:
        """The scale of those frames on a pass at that time step."""
        if (number := self.curve.constant) is not None:
            return [number] * len(frames)
        values = self.curve.at(self.frames, progress(time))
        return [values[min(frame, self.frames - 1)] for frame in frames]


@dataclass
class Effect:
    """What an encoder did to the UNet in the passes so far."""

    keys: tuple[int, ...]
    """The frames with a key."""
    influence: Influence
    passes: int = 0
    """On which the encoder acted."""
    _added: Tensor | float = field(default=0.0, repr=False)
    _met: Tensor | float = field(default=0.0, repr=False)
    _half: bool = field(default=False, repr=False)

    @property
    def strength(self) -> float:
        """Norm of all residuals relative to the norm of the features that they were added to; 0 before any.

        The device is waited for.
        """
        _, added, met = self.counted()
        return math.sqrt(added / met) if met else 0.0

    def check(self, ended: bool = True) -> None:
        """Raise MotionError with the reason if the encoder did nothing, or nothing finite.

        ``ended``: there are no more passes to come. After a pass the device is waited for.
        """
        if not self.keys:
            raise MotionError("SparseCtrl does nothing: no frame has a key; give at least one key image")
        if self.influence.is_zero:
            raise MotionError("SparseCtrl does nothing: its scale is 0; give a larger one, or no key images")
        if ended and not self.passes:
            span = f"{self.influence.start:g} to {self.influence.end:g}"
            raise MotionError(f"SparseCtrl does nothing: no step lies in {span} of the steps; widen start and end")
        strength = self.strength
        if self.passes and strength == 0:
            raise MotionError(
                "SparseCtrl does nothing: all its residuals are zero, as an untrained encoder's are; give a trained one"
            )
        if not math.isfinite(strength):
            half, whole = (
                "compute in float32 or bfloat16 instead of float16",
                "its file holds weights that are no numbers",
            )
            raise MotionError(f"SparseCtrl's residuals came out as NaN: {half if self._half else whole}")

    def counted(self) -> tuple[int, float, float]:
        """What `go_on` takes elsewhere, to count on from here."""
        sums = torch.stack([torch.as_tensor(self._added), torch.as_tensor(self._met)])  # one wait for both
        added, met = sums.tolist()
        return self.passes, added, met

    def go_on(self, passes: int, added: float, met: float) -> None:
        """Count on from what was `counted`."""
        self.passes, self._added, self._met = passes, added, met

    def note(self, residual: Tensor, feature: Tensor) -> None:
        """Take down that ``residual`` is added to ``feature``; no device is waited for."""
        self._added = self._added + _square_sum(residual.detach())
        self._met = self._met + _square_sum(feature.detach())
        self._half = residual.dtype == torch.float16


def _square_sum(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dtype=torch.promote_types(x.dtype, torch.float32)).square()
