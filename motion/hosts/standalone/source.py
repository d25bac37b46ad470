"""The latents that video to video begins with."""

from __future__ import annotations

from itertools import islice

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from motion.hosts.source import Source
from motion.hosts.standalone.samplers import Levels
from motion.hosts.standalone.vae import encode
from motion.settings.settings import Clip

ENCODED_AT_ONCE = 4 * 512 * 512
"""Pixels that go through the VAE's encoder together, but always a whole frame."""


def noise_source(source: Source, clip: Clip, vae: AutoencoderKL, noise: Tensor, levels: Levels, step: int) -> Tensor:
    """The source's frames at the noise level of a step, in the place of `noise [clips, frames, 4, h, w]`, a few at a
    time; each clip begins with the same, and frames that are drawn beyond `clip` with its last one.

    Raises MotionError if the source has fewer frames than the clip.
    """
    latents = noise.mul_(levels.sigmas[step])
    shown, last = source.frames(clip.frames, clip.size), torch.empty(0)
    at_once = max(1, ENCODED_AT_ONCE // (clip.size.width * clip.size.height))
    for at in range(0, clip.frames, at_once):
        pixels = torch.from_numpy(np.stack(list(islice(shown, at_once)))).movedim(-1, 1)
        found = encode(vae, pixels / 255).cpu()
        latents[:, at : at + len(found)] += found
        last = found[-1]
    latents[:, clip.frames :] += last
    return latents.mul_(levels.scales[step])
