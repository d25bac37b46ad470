"""First part of the image recipe: the autoencoder (LDM's KL autoencoder, Rombach et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from motion.training.loop import Plan, train
from motion.video.read import Frames

LATENT_SCALE = 0.18215
"""Every SD1.5 checkpoint is read with this factor, so a latent must leave the encoder with a spread of 1 / 0.18215."""
KL_WEIGHT = 1e-4

Stills = Callable[[np.random.Generator, int], Frames]
"""Draws ``n`` stills, uint8 ``[n, h, w, 3]``."""


def build_vae(widths: tuple[int, ...]) -> AutoencoderKL:
    """An SD1.5-shaped autoencoder with one ResNet a block: eight pixels a latent where there are four widths."""
    return AutoencoderKL(
        block_out_channels=widths,
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        latent_channels=4,
        scaling_factor=LATENT_SCALE,
    )


def to_pixels(frames: Frames) -> Tensor:
    """uint8 ``[..., h, w, 3]`` in 0..255 -> float ``[..., 3, h, w]`` in -1..1."""
    return torch.from_numpy(frames).movedim(-1, -3).float() / 127.5 - 1


def train_vae(vae: AutoencoderKL, stills: Stills, plans: tuple[Plan, Plan], batch: int, folder: Path) -> None:
    """Train on half-size crops, which are four times cheaper, then on whole frames, whose group statistics differ.

    Ends by folding the latents' mean and spread into the layers beside them, so that the latents come out with zero
    mean and a spread of ``1 / LATENT_SCALE`` in every channel.
    """
    vae.train()
    crops, whole = plans

    def loss_of(seed: int, crop: bool) -> Tensor:
        rng = np.random.default_rng(seed)
        frames = stills(rng, batch)
        if crop:
            side = frames.shape[1] // 2
            y, x = rng.integers(0, side + 1, 2)
            frames = np.ascontiguousarray(frames[:, y : y + side, x : x + side])
        torch.manual_seed(seed)
        return _loss(vae, to_pixels(frames).to(vae.device), half=not crop)

    train("vae-crops", vae, lambda seed: loss_of(seed, crop=True), crops, folder)
    train("vae", vae, lambda seed: loss_of(seed, crop=False), replace(whole, seed=crops.seed + 1), folder)
    vae.eval()
    normalise_latents(vae, to_pixels(stills(np.random.default_rng(0), 512)).to(vae.device))


def _loss(vae: AutoencoderKL, pixels: Tensor, half: bool) -> Tensor:
    """Mean absolute and squared error, and a light pull of the posterior to the unit Gaussian."""
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=half):
        posterior = vae.encode(pixels).latent_dist
        restored = vae.decode(posterior.sample()).sample
    error = restored.float() - pixels
    divergence = posterior.kl().float().mean() / posterior.mean[0].numel()
    return error.abs().mean() + error.square().mean() + KL_WEIGHT * divergence


@torch.no_grad()
def normalise_latents(vae: AutoencoderKL, pixels: Tensor) -> None:
    """Fold an affine map of the latents into ``quant_conv`` and its inverse into ``post_quant_conv``; exact."""
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in torch.split(pixels, 64)])
    mean = latents.mean(dim=(0, 2, 3))
    gain = 1 / (LATENT_SCALE * latents.std(dim=(0, 2, 3)))
    channels = len(mean)
    weight, bias = vae.quant_conv.parameters()
    bias[:channels] = (bias[:channels] - mean) * gain
    weight[:channels] *= gain[:, None, None, None]
    bias[channels:] += 2 * gain.log()  # the log-variances
    weight, bias = vae.post_quant_conv.parameters()
    bias += weight[:, :, 0, 0] @ mean
    weight /= gain[None, :, None, None]
