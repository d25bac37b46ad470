"""The sources of the noise of each frame, on the CPU, so that a seed draws the same on every device."""

from __future__ import annotations

import torch

from motion.settings.settings import Clip

STEP_SEED = 1 << 19
"""How far from the clip's seed the noise is drawn that samplers add to all frames alike."""


def frame_generators(clip: Clip, frames: int) -> list[torch.Generator]:
    """For each frame the source of its initial noise, and then of whatever noise the sampler adds to it."""
    if clip.has_seeds:
        return [torch.Generator("cpu").manual_seed(seed) for seed in clip.frame_seeds(clip.seed, frames)]
    return [torch.Generator("cpu").manual_seed(clip.seed)] * frames


def twin_generators(clip: Clip, frames: int) -> list[torch.Generator]:
    """Such sources of what the sampler adds that all frames are given the same."""
    return [torch.Generator("cpu").manual_seed(clip.seed + STEP_SEED) for _ in range(frames)]
