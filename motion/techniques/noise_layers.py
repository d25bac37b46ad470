"""Noise of several kinds on top of each other (ComfyUI-AnimateDiff-Evolved's noise layers, their normalized sum)."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from motion.techniques.freenoise import SharedNoise
from motion.techniques.layered_noise import LayeredNoise
from motion.techniques.technique import Layout, Technique

LAYER_SEED = 1 << 20
"""How far from the clip's seed the noise of the first layer is drawn, that of each further one as far again; it is the
same in every host."""


class Kind(NamedTuple):
    """A kind of noise, as `SharedNoise` and `LayeredNoise` read it of settings."""

    noise: str
    noise_share: float

    def of(self, noise: Tensor, layout: Layout, seed: int) -> Tensor:
        """Noise of this kind, made of ``noise [frames, c, h, w]``, of which each frame has its own."""
        for technique in (SharedNoise, LayeredNoise):
            if technique.wanted(self):
                noise = technique(self).begin(noise, layout, seed)
        return noise


class NoiseLayers(Technique):
    """``(noise + sum of w_i layer_i) / sqrt(1 + sum of w_i²)``: the variance of independent layers is kept.

    Where the clip's own noise is empty it counts nothing, and the layers are all there is.
    """

    label = "Noise layers"
    paper = "github.com/Kosinkadink/ComfyUI-AnimateDiff-Evolved"

    def __init__(self, settings: Any) -> None:
        self.layers = [(Kind(name, settings.noise_share), weight) for name, weight in settings.noise_layers]
        self.own = float(settings.noise != "empty")

    @staticmethod
    def wanted(settings: Any) -> bool:
        return any(weight for _, weight in settings.noise_layers)

    def begin(self, noise: Tensor, layout: Layout, seed: int) -> Tensor:
        total, square = noise * self.own, self.own
        for number, (kind, weight) in enumerate(self.layers):
            of_layer = seed + LAYER_SEED * (number + 1)
            drawn = torch.randn(noise.shape, generator=torch.Generator().manual_seed(of_layer)).to(noise)
            total = total + weight * kind.of(drawn, layout, of_layer)
            square += weight**2 * (kind.noise != "empty")
        return total / math.sqrt(square) if square else total
