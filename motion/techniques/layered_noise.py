"""Noise of which frames have a part in common: the priors of PYoCo (Ge et al. 2023, arXiv:2305.10474)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from motion.fields.table import Number, setting
from motion.techniques.technique import Layout, Technique

if TYPE_CHECKING:
    from torch import Tensor

KINDS = ("mixed", "progressive", "empty")
SHARED_SEED = 1 << 18
"""How far from the clip's seed the noise is drawn that all frames share; it is the same in every host."""


@dataclass(frozen=True)
class LayeredNoiseSettings:
    """How much frames have in common."""

    noise_share: float = setting(
        Number, 0.5, "Shared noise", "how much of mixed noise all frames share, of progressive noise two neighbours",
        0, 1, 0.05, 1, key="Motion shared noise", group="motion", needs=("noise",),
    )  # fmt: skip


class LayeredNoise(Technique):
    """Layers of noise whose weights' squares sum to 1, so that each frame's noise keeps its variance.

    "mixed": ``sqrt(s) shared + sqrt(1 - s) own``. "progressive": ``sqrt(s) before + sqrt(1 - s) own``, where ``before``
    is the frame before's. "empty": none, as for an initial image that is to be drawn as it is (the noise type of
    ComfyUI-AnimateDiff-Evolved). ``s`` is the paper's ``a² / (1 + a²)``.
    Source: Ge et al. 2023, "Preserve Your Own Correlation" (PYoCo, arXiv:2305.10474), section 4.2.
    """

    label = "Noise"
    paper = "arXiv:2305.10474"

    def __init__(self, settings: Any) -> None:
        self.kind, self.share = settings.noise, settings.noise_share

    @staticmethod
    def wanted(settings: Any) -> bool:
        return settings.noise in KINDS

    def begin(self, noise: Tensor, layout: Layout, seed: int) -> Tensor:
        import torch

        if self.kind == "empty":
            return torch.zeros_like(noise)
        own, common = noise * (1 - self.share) ** 0.5, self.share**0.5
        if self.kind == "mixed":
            generator = torch.Generator().manual_seed(seed + SHARED_SEED)
            return own + common * torch.randn(noise.shape[1:], generator=generator).to(noise)
        frames = [noise[0]]
        for frame in own[1:]:
            frames.append(frame + common * frames[-1])
        return torch.stack(frames)
