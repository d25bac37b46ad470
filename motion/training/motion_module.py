"""The motion recipe: temporal layers on a frozen image model (Guo et al. 2023, section 4.2)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from torch import Tensor

from motion.models.motion.architecture import Betas
from motion.models.motion.model import MotionModel
from motion.sampling.animation import attach
from motion.training.data import LatentClips
from motion.training.image import TEXT_DROP, ImageModel, Loss, Noised, debias_weights, loss_of_seed, noise_loss
from motion.training.loop import Plan, train

NOISIEST = 700
"""Half of the time steps are drawn from here on: it is settled there what moves where."""
BLIND = 900
"""From this time step on, half of the clips are hidden completely behind their noise."""


def train_motion(
    image: ImageModel, motion: MotionModel, clips: LatentClips, plan: Plan, batch: int, folder: Path
) -> None:
    """Train every parameter of ``motion`` on ``batch`` clips a step."""
    image.freeze()
    motion.train().requires_grad_(True)
    loss_of = loss_of_seed(
        lambda rng: clips.clips(rng, batch, TEXT_DROP), clip_loss(image, motion.architecture.family.betas)
    )
    with attach(image.unet, motion, frames=clips.latents.shape[1]):
        train("motion", motion, loss_of, plan, folder)
    motion.eval().requires_grad_(False)


def clip_loss(image: ImageModel, betas: Betas) -> Loss:
    """The loss of latents ``[n, frames, 4, h, w]`` with tokens ``[n, 77]``: one time step for each clip, fresh noise in
    each frame, more of both where it is settled what moves where."""
    device = image.unet.device
    alphas = betas.alphas_cumprod().to(device, torch.float32)

    def loss_of(rng: np.random.Generator, latents: Tensor, tokens: Tensor) -> Tensor:
        batch, frames = latents.shape[:2]
        latents = rearrange(latents, "b f c h w -> (b f) c h w").to(device)
        noise = torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32)).to(device)
        times = torch.from_numpy(draw_times(rng, batch, len(alphas))).to(device).repeat_interleave(frames)
        blind = torch.from_numpy(rng.random(batch) < 0.5).to(device).repeat_interleave(frames) & (times >= BLIND)
        noise = torch.where(blind[:, None, None, None], hiding(latents, noise, alphas[times]), noise)
        with torch.no_grad():
            context = image.encode_text(tokens.to(device)).repeat_interleave(frames, dim=0)
        return noise_loss(image.unet, Noised(latents, noise, times, alphas[times]), context, debias_weights)

    return loss_of


def draw_times(rng: np.random.Generator, count: int, steps: int) -> npt.NDArray[np.int64]:
    """``count`` time steps below ``steps``: half of them uniform, half from the noisiest ones."""
    lowest = np.where(rng.random(count) < 0.5, 0, NOISIEST * steps // 1000)
    return rng.integers(lowest, steps)


def hiding(latents: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
    """The noise under which ``latents`` look like ``noise`` alone at the share ``kept`` of their variance.

    Sampling begins with pure noise, but Stable Diffusion's schedules leave a trace of the image at their last step
    (Lin et al. 2024, "Common Diffusion Noise Schedules and Sample Steps are Flawed"). Sixteen frames together betray
    a track by it: a module that only ever saw such a trace finds a track in any noise, whatever the caption says.

    Args:
        latents, noise: ``[n, c, h, w]``.
        kept: cumulative alpha of each, ``[n]``.
    """
    signal, spread = (share.sqrt()[:, None, None, None] for share in (kept, 1 - kept))
    return (noise - signal * latents) / spread
