"""The motion recipe: temporal layers on a frozen image model (Guo et al. 2023, section 4.2)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from motion.animation import attach
from motion.network.model import MotionModel
from motion.training.data import LatentClips
from motion.training.image import TEXT_DROP, ImageModel, Noised, debiased, noise_loss
from motion.training.loop import Plan, train


def train_motion(
    image: ImageModel, motion: MotionModel, clips: LatentClips, plan: Plan, batch: int, folder: Path
) -> None:
    """Train every parameter of ``motion`` on ``batch`` clips a step: one time step per clip, fresh noise per frame."""
    image.freeze()
    motion.train().requires_grad_(True)
    device = image.unet.device
    frames = clips.latents.shape[1]
    alphas = motion.architecture.family.betas.alphas_cumprod().to(device)

    def loss_of(seed: int) -> Tensor:
        rng = np.random.default_rng(seed)
        latents, tokens = clips.clips(rng, batch, TEXT_DROP)
        latents = rearrange(latents, "b f c h w -> (b f) c h w").to(device)
        noise = torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32)).to(device)
        times = torch.from_numpy(rng.integers(0, len(alphas), batch)).to(device).repeat_interleave(frames)
        with torch.no_grad():
            context = image.encode_text(tokens.to(device)).repeat_interleave(frames, dim=0)
        return noise_loss(image.unet, Noised(latents, noise, times, alphas[times]), context, debiased)

    with attach(image.unet, motion, frames=frames):
        train("motion", motion, loss_of, plan, folder)
    motion.eval().requires_grad_(False)
