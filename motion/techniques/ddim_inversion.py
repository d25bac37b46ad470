"""DDIM inversion: the noise from which a sampler without noise of its own would draw a given clip."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from motion.errors import MotionError
from motion.fields.table import Field, setting
from motion.techniques.technique import Plan, Technique

if TYPE_CHECKING:
    from torch import Tensor

REVERSIBLE = ("DDIM", "Euler")
"""The samplers without noise of their own whose steps know nothing of each other, as the WebUIs call them."""
INVERTED = "inverted"
"""The kind of noise that is not drawn but found."""

EVALUATIONS = 3
"""Of the network in each step on the way to inverted noise. With one, clips of the bundled motion module came back to
23.9, 29.8 and 32.7 dB, with three to 31.2, 34.8 and 34.1."""


@dataclass(frozen=True)
class InversionSettings:
    """By what words noise is found."""

    source_caption: str = setting(
        Field, "", "Source caption", "what the source shows, in words; inverted noise is found by it",
        key="Motion source caption", group="motion", needs=("noise",),
    )  # fmt: skip


class DdimInversion(Technique):
    """The source's own noise stands for what would be drawn: hosts go backwards from its frames to the noise level at
    which drawing begins, by its caption and without guidance."""

    label = "Inverted noise"
    paper = "arXiv:2010.02502"
    inverts = True

    def __init__(self, settings: Any) -> None:
        self.layers, self.rounds_asked = settings.noise_layers, settings.freeinit

    @staticmethod
    def wanted(settings: Any) -> bool:
        return bool(settings.noise == INVERTED)

    def check(self, plan: Plan) -> None:
        if plan.begins_with_noise:
            raise MotionError(
                "noise is inverted, and there is no clip to find it in: give a source clip that the frames begin with, "
                "or choose another noise"
            )
        check_reversible(plan.sampler)
        if self.layers:
            raise MotionError("noise is inverted, which is one source's own: take the noise layers away")
        if self.rounds_asked > 1:
            raise MotionError(
                f"FreeInit is {self.rounds_asked}, and its rounds draw other noise than the source's: set it to 1, or "
                "choose another noise than inverted"
            )


def check_reversible(sampler: str) -> None:
    """Raise MotionError for a sampler that cannot be gone backwards."""
    if sampler not in REVERSIBLE:
        raise MotionError(f"sampler is {sampler}: only {' and '.join(REVERSIBLE)} can be gone backwards")


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
