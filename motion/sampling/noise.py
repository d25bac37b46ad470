"""Initial images that fade into noise. Pure functions over frames."""

from __future__ import annotations

import torch
from torch import Tensor

from motion.fields.curve import Value
from motion.fields.curve_text import read_curve


def fade_weights(frames: int, power: float, scale: float, to_last: bool = False) -> tuple[Tensor, Tensor]:
    """Weights of the first and of the last image in each frame, float32 ``[frames]`` each.

    The first has ``1 - i^power / scale``, from 0 on; the last, if there is one, the same from the other end. Where
    both together exceed 1 they share it, and each end belongs to its own image alone
    (sd-webui-animatediff's formula for image to video).
    """
    place = torch.arange(frames, dtype=torch.float32)
    first = (1 - place**power / scale).clamp(min=0)
    last = first.flip(0) if to_last else torch.zeros(frames)
    if to_last:
        total = (first + last).clamp(min=1)
        first, last = first / total, last / total
        first[-1], last[-1] = 0, 1
        first[0], last[0] = (1, 0) if frames > 1 else (0, 1)
    return first, last


def fade(
    first: Tensor,
    noise: Tensor,
    power: float,
    scale: float,
    last: Tensor | None = None,
    frames: int | None = None,
    weight: Value = 1.0,
) -> Tensor:
    """Latents ``[drawn, c, h, w]`` that go from the image ``first`` over into ``noise`` (and to ``last``).

    ``first`` and ``last`` are latents of the same shape as ``noise``, or broadcast to it. Of all that are drawn
    ``frames`` will be kept, by default all: over these it fades, and what is drawn behind them stays at the end.
    ``weight``, a number or a curve over these, multiplies the first image's; the rest is noise.
    """
    kept = len(noise) if frames is None else frames
    place = torch.arange(len(noise)).clamp(max=kept - 1)
    of_first, of_last = fade_weights(kept, power, scale, last is not None)
    weights = of_first * torch.tensor(read_curve(weight).at(kept)), of_last
    of_first, of_last = (weight[place].to(noise)[:, None, None, None] for weight in weights)
    faded = first * of_first + noise * (1 - of_first - of_last)
    return faded if last is None else faded + last * of_last
