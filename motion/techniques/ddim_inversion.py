"""DDIM inversion: the noise from which a sampler without noise of its own would draw a given clip."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def invert(
    latents: Tensor, alphas: Sequence[float], predict: Callable[[Tensor, int], Tensor], evaluations: int = 1
) -> Iterator[Tensor]:
    """The latents of a clip at one noise level after the other, each of the shape of ``latents``.

    ``alphas`` are cumulative and fall: that at which the sampler leaves the clip, then those of its steps, the noisiest
    last. ``predict(noisy, step)`` is the noise that the network, told the time step of ``alphas[step + 1]``, finds in
    latents of constant variance. It is asked with those of the level before, as there are none of its own yet; with
    more ``evaluations`` in a step it is then asked with what came of that, which nears the point that the sampler will
    come back from.
    Source: Song et al. 2020, "Denoising Diffusion Implicit Models" (arXiv:2010.02502), section 4.3; the fixed point is
    Pan et al. 2023, "AIDI" (arXiv:2309.04907), section 3.2.
    """
    for step, levels in enumerate(pairwise(alphas)):
        noise = predict(latents, step)
        for _ in range(evaluations - 1):
            noise = predict(moved(latents, noise, *levels), step)
        latents = moved(latents, noise, *levels)
        yield latents


def moved(latents: Tensor, noise: Tensor, before: float, after: float) -> Tensor:
    """``latents`` at the cumulative alpha ``before``, in which there is ``noise``, at another one (equation 12 of DDIM,
    without noise of its own)."""
    clean = (latents - math.sqrt(1 - before) * noise) / math.sqrt(before)
    return math.sqrt(after) * clean + math.sqrt(1 - after) * noise
