"""Techniques in the standalone host: what they make of the predictions of a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from motion.hosts.regions import Regions
from motion.hosts.standalone.samplers import last_alpha
from motion.hosts.standalone.source import Kept
from motion.techniques.ddim_inversion import invert
from motion.techniques.technique import Input, Moment, Pass, Pictures, Step, Techniques, from_velocity, velocity


@dataclass(frozen=True)
class Guidance:
    """Of the clips of one batch, `cfg` being their CFG scale and `kept` the frames of each when it is finished."""

    techniques: Techniques
    cfg: float
    kept: int
    given: Mapping[int, Tensor]
    """Latents `[c, h, w]` of the frames that are given as pictures, where the UNet computes."""
    pictures: Pictures
    kept_by_mask: Kept | None = None
    """What stays of a source."""

    @cached_property
    def given_to_steps(self) -> Mapping[int, Tensor]:
        """The same on the CPU, where steps are made of predictions."""
        return {frame: latents.cpu() for frame, latents in self.given.items()}

    def combine(self, unguided: Tensor, guided: Tensor, moment: Moment) -> Tensor:
        """Classifier-free guidance; `guided` may be overwritten."""
        scale: Tensor | float = self.cfg
        if self.techniques.have("scales"):
            scales = torch.tensor(self.techniques.scales(moment, self.cfg))
            scale = scales.repeat(len(guided) // moment.frames)[:, None, None, None]
        return (guided - unguided).mul_(scale).add_(unguided)

    def see(self, x: Tensor, t: Tensor, frames: Sequence[int]) -> tuple[Tensor, Tensor]:
        """What the UNet sees instead of a call's latents and time steps; see `attach_inputs`."""
        return self.techniques.see(Input(x, t, frames, self.given))[:2]

    def edit(
        self,
        predicted: Tensor,
        by_text: Mapping[str, Tensor],
        noisy: Tensor,
        level: NoiseLevel,
        moment: Moment,
        predict: Callable[[Pass], Tensor],
    ) -> Tensor:
        """The guided prediction `predicted [rows, c, h, w]` as the techniques and a mask leave it.

        `noisy` is what the UNet was shown at the noise level `level`, `by_text` its predictions.
        """
        if not self.techniques.have("edit") and self.kept_by_mask is None:
            return predicted
        x = noisy * (1 + level.sigma**2) ** 0.5
        x0 = {text: level.clean(x, found) for text, found in by_text.items()}
        sigma = x.new_full((len(x), 1, 1, 1), level.sigma)
        context = self.given_to_steps, self.pictures
        step = Step(moment, x, sigma, x0, lambda further: level.clean(x, predict(further)), *context)
        edited = self.techniques.edit(step, level.clean(x, predicted))
        return level.prediction(x, edited if self.kept_by_mask is None else self.kept_by_mask.edit(edited))


class NoiseLevel(NamedTuple):
    """The noise of a step, and what the image model predicts of it: noise or, if `of_v`, velocity."""

    sigma: float
    """Its standard deviation, where that of the clip is 1."""
    of_v: bool

    @classmethod
    def of(cls, scheduler: Any, t: Tensor) -> NoiseLevel:
        """At the time step `t`; between whole ones as diffusers' Euler has it."""
        alphas = scheduler.alphas_cumprod.clamp(min=2**-24)  # also of pure noise something is the clip
        sigma = float(np.interp(float(t), range(len(alphas)), ((1 - alphas) / alphas).sqrt()))
        return cls(sigma, scheduler.config.prediction_type == "v_prediction")

    def clean(self, x: Tensor, predicted: Tensor) -> Tensor:
        """The clip that a prediction for the noisy latents `x` takes them for."""
        return from_velocity(x, self.sigma, predicted) if self.of_v else x - self.sigma * predicted

    def noise(self, noisy: Tensor, predicted: Tensor) -> Tensor:
        """The noise that it finds in what the UNet was shown."""
        x = noisy * (1 + self.sigma**2) ** 0.5
        return (x - self.clean(x, predicted)) / self.sigma if self.of_v else predicted

    def prediction(self, x: Tensor, x0: Tensor) -> Tensor:
        """The inverse of `clean`."""
        return velocity(x, self.sigma, x0) if self.of_v else (x - x0) / self.sigma


def join(parts: Sequence[tuple[float, Tensor]], base: Tensor, regions: Regions | None, frames: int) -> Tensor:
    """The prediction for a prompt in ``parts`` that AND joins, each with its weight and its own ``[rows, c, h, w]``:
    what they differ by from ``base``, where they count, added to that. The rows are clips of so many ``frames``."""
    total = base.clone()
    for number, (weight, found) in enumerate(parts):
        mask = None if regions is None else regions.weights(number, base[:frames])
        counts = weight if mask is None else weight * mask.repeat(len(base) // frames, 1, 1, 1)
        total += counts * (found - base)
    return total


def inverted(
    scheduler: Any, first: int, latents: Tensor, call: Callable[[Tensor, Tensor], Tensor], evaluations: int
) -> tuple[Tensor, float]:
    """What a sampler's `scheduler` would draw `latents [frames, 4, h, w]` from if it began with the step `first`, as
    `x = x0 + sigma noise`, and that sigma.

    `call` is the image model, given what it is shown and a time step.
    """
    times = scheduler.timesteps[first:].flip(0)
    found = [NoiseLevel.of(scheduler, t) for t in times]
    alphas = [last_alpha(scheduler), *(1 / (1 + level.sigma**2) for level in found)]

    def predict(noisy: Tensor, step: int) -> Tensor:
        return found[step].noise(noisy, call(noisy, times[step]))

    *_, noisy = invert(latents, alphas, predict, evaluations)
    return noisy * (1 + found[-1].sigma ** 2) ** 0.5, found[-1].sigma
