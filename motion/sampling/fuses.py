"""How overlapping windows are averaged: what each frame of a window counts. Pure functions, without torch.

The rules and their names are the field's (ComfyUI-AnimateDiff-Evolved, diffusers' FreeNoise).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import compress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from motion.sampling.windows import Window, Windows

Weights = tuple[float, ...]
BETAS = 0.85, 12.0
"""AnimateDiff's betas at the picture and in pure noise, times 1000 steps."""


def flat(windows: Windows, window: Window, step: int = 0, time: float = 0.0) -> Weights:
    """All frames alike."""
    return (1.0,) * len(window)


def pyramid(windows: Windows, window: Window, step: int = 0, time: float = 0.0) -> Weights:
    """1, 2, ... up to the middle and down again."""
    return tuple(float(min(place + 1, len(window) - place)) for place in range(len(window)))


def overlap_linear(windows: Windows, window: Window, step: int = 0, time: float = 0.0) -> Weights:
    """1, with a straight slope over the overlap at each side where another window goes on."""
    overlap = min(windows.overlap, len(window) - 1)
    goes_on = (windows.closed or min(window) > 0, windows.closed or max(window) < windows.frames - 1)

    def weight(place: int) -> float:
        sides = (place, len(window) - 1 - place)
        return min((side + 1) / (overlap + 1) for side in (*compress(sides, goes_on), overlap))

    return tuple(map(weight, range(len(window))))


def relative(windows: Windows, window: Window, step: int = 0, time: float = 0.0) -> Weights:
    """The nearness to the window's middle, at least 0.01 (ComfyUI-AnimateDiff-Evolved; its running mean is this)."""
    middle = (len(window) - 1) / 2
    return tuple(max(0.01, 1 - abs(place - middle) / (middle + 0.005)) for place in range(len(window)))


def at_random(windows: Windows, window: Window, step: int = 0, time: float = 0.0) -> Weights:
    """Other weights for each window in each step, from 0.001 to what a pyramid has in its middle; the same in every
    run."""
    drawn = random.Random(f"{step} {window}")
    return tuple(drawn.random() * _middle(window) + 0.001 for _ in window)


def gauss(windows: Windows, window: Window, step: int = 0, time: float = 0.0) -> Weights:
    """A bell as wide as the noise level: 9 frames of deviation from sigma 4 on, down to 1 in the end."""
    width, middle = 1 + 8 * min(4.0, noise_level(time)) / 4, (len(window) - 1) / 2
    return tuple(max(math.exp(-0.5 * ((place - middle) / width) ** 2), 1e-6) for place in range(len(window)))


def sawtooth(windows: Windows, window: Window, step: int = 0, time: float = 0.0) -> Weights:
    """0.01 up to the middle, then a pyramid's way down: a frame follows the window in which it stands farther back."""
    return tuple(
        weight if place >= _middle(window) - 1 else 0.01 for place, weight in enumerate(pyramid(windows, window))
    )


def noise_level(time: float) -> float:
    """k-diffusion's sigma at a noise time from 0 to 1, by AnimateDiff's linear betas."""
    first, last = BETAS
    return math.sqrt(math.expm1(first * time + (last - first) * time**2 / 2))


def _middle(window: Window) -> int:
    return (len(window) + 1) // 2


FUSES: dict[str, Callable[..., Weights]] = {
    "flat": flat,
    "pyramid": pyramid,
    "overlap-linear": overlap_linear,
    "relative": relative,
    "random": at_random,
    "gauss": gauss,
    "sawtooth": sawtooth,
}
"""What a frame counts in a window, by the name of the rule. One that is added must give weights above zero."""
