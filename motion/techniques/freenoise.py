"""Noise that frames share: FreeNoise and its simpler relatives (Qiu et al. 2023, arXiv:2310.15169)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from motion.techniques import layered_noise
from motion.techniques.ddim_inversion import INVERTED
from motion.techniques.technique import Layout, Technique


def noise_order(kind: str, windows: Layout, seed: int) -> list[int]:
    """Which of its independent noises each frame of a clip begins with.

    "independent": its own. "constant": all the first. "repeated": those of the first window again and again.
    "freenoise": the same, but each stretch from one window's beginning to the next is shuffled (Qiu et al. 2023,
    "FreeNoise", arXiv:2310.15169, section 3.2), by a generator of its own that starts from ``seed``. "auto": that one
    for clips in windows, else the first.
    """
    frames, length, hop = windows.frames, windows.size, windows.hop()
    kind = ("freenoise" if windows.cut else "independent") if kind == "auto" else kind
    if kind == "constant":
        return [0] * frames
    if kind == "repeated":
        return [frame % length for frame in range(frames)]
    if kind == "independent":
        return list(range(frames))
    generator, order = torch.Generator().manual_seed(seed), list(range(length))
    while len(order) < frames:
        block = order[len(order) - length :][:hop]
        order += [block[place] for place in torch.randperm(len(block), generator=generator).tolist()]
    return order[:frames]


class SharedNoise(Technique):
    """Each frame begins with the noise that `noise_order` says."""

    label = "Noise"
    paper = "arXiv:2310.15169"

    def __init__(self, settings: Any) -> None:
        self.kind = settings.noise

    @staticmethod
    def wanted(settings: Any) -> bool:
        return settings.noise not in ("independent", INVERTED, *layered_noise.KINDS)

    def begin(self, noise: Tensor, layout: Layout, seed: int) -> Tensor:
        return noise[noise_order(self.kind, layout, seed)]
