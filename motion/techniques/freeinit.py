"""FreeInit (Wu et al. 2023, arXiv:2312.07537): a clip is drawn several times, from what was slow in the last one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from motion.techniques.noise_layers import Kind
from motion.techniques.technique import Round, Technique

FRESH_SEED = 1 << 17
"""How far from the clip's seed FreeInit's fresh noise is drawn, for each round as far again. Its stream is its own:
samplers differ from host to host in how much noise they take out of the clip's."""

FILTERS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "butterworth": lambda square, longest, stop: 1 / (1 + (square / stop**2) ** 4),
    "gaussian": lambda square, longest, stop: torch.exp(-square / (2 * stop**2)),
    "ideal": lambda square, longest, stop: (square <= stop**2).float(),
    "box": lambda square, longest, stop: (longest <= stop).float(),
}
"""FreeInit's filters: how much of a frequency stays, by the square of its distance from zero, its way along the axis on
which it is farthest, and the stop frequency."""


def low_pass(shape: tuple[int, int, int], kind: str, spatial: float = 0.25, temporal: float = 0.25) -> Tensor:
    """How much of each frequency of ``[frames, h, w]`` a filter lets through, 0 to 1 in the order of `torch.fft.fftn`.

    A frequency's distance is 1 at half the sampling rate; along time it counts ``spatial / temporal`` times.
    """
    axes = [2 * torch.fft.fftfreq(size) for size in shape]
    scaled = (axes[0] * (spatial / temporal), *axes[1:])
    along = torch.stack(torch.meshgrid(*scaled, indexing="ij"))
    return FILTERS[kind](along.square().sum(0), along.abs().amax(0), spatial)


def reinitialize_noise(drawn: Tensor, noise: Tensor, fresh: Tensor, alpha: float, kind: str = "butterworth") -> Tensor:
    """The noise to draw a clip from once more: its slow parts from what was drawn, the fast ones fresh.

    ``drawn``: latents ``[frames, c, h, w]`` made from ``noise``; they are noised with it to the last time step, at
    which the cumulative alpha is ``alpha``, and give the low frequencies; ``fresh`` gives the high ones.
    Source: Wu et al. 2023, "FreeInit" (arXiv:2312.07537), equations 6 to 9; fresh noise in each round as in theirs.
    """
    low, dims = low_pass((len(drawn), *drawn.shape[-2:]), kind).to(drawn), (0, 1, 2)

    def mixed(drawn: Tensor, noise: Tensor, fresh: Tensor) -> Tensor:
        noised = math.sqrt(alpha) * drawn + math.sqrt(1 - alpha) * noise
        frequencies = torch.fft.fftn(noised, dim=dims) * low + torch.fft.fftn(fresh, dim=dims) * (1 - low)
        return torch.fft.ifftn(frequencies, dim=dims).real

    # Channel by channel: the frequencies of a long clip take several times the memory of its latents.
    channels = zip(*(part.unbind(1) for part in (drawn, noise, fresh)), strict=True)
    return torch.stack([mixed(*channel) for channel in channels], dim=1)


class FreeInit(Technique):
    """Each round begins with the slow parts of what the last one has drawn; see `reinitialize_noise`.

    A clip that begins with an image begins each round with it, in that noise (as ComfyUI-AnimateDiff-Evolved's).
    """

    label = "FreeInit"
    paper = "arXiv:2312.07537"

    def __init__(self, settings: Any) -> None:
        self.rounds, self.kind = settings.freeinit, settings.freeinit_filter
        self.fresh = Kind(settings.freeinit_noise, settings.noise_share)

    @staticmethod
    def wanted(settings: Any) -> bool:
        return bool(settings.freeinit > 1)

    def again(self, ended: Round) -> Tensor:
        seed = ended.seed + ended.number * FRESH_SEED
        fresh = self.fresh.of(ended.draw(seed), ended.layout, seed)
        return reinitialize_noise(ended.drawn, ended.noise, fresh, ended.alpha, self.kind)
