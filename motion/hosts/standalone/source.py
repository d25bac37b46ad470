"""The latents that video to video begins with."""

from __future__ import annotations

from diffusers import AutoencoderKL
from torch import Tensor

from motion.hosts.source import Source
from motion.hosts.standalone.samplers import Levels
from motion.hosts.standalone.vae import encode_frames
from motion.settings.settings import Clip


def noise_source(source: Source, clip: Clip, vae: AutoencoderKL, noise: Tensor, levels: Levels, step: int) -> Tensor:
    """The source's frames at the noise level of a step, in the place of `noise [clips, frames, 4, h, w]`, a few at a
    time; each clip begins with the same, and frames that are drawn beyond `clip` with its last one.

    Raises MotionError if the source has fewer frames than the clip.
    """
    latents = noise.mul_(levels.sigmas[step])
    at = 0
    for found in encode_frames(vae, source.frames(clip.frames, clip.size)):
        latents[:, at : at + len(found)] += found
        at, last = at + len(found), found[-1]
    latents[:, at:] += last
    return latents.mul_(levels.scales[step])
