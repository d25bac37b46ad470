"""Second part of the image recipe: text encoder and UNet on stills, by the noise they predict (Ho et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from motion.models.motion.architecture import SCHEDULES, Betas
from motion.training.data import LatentClips
from motion.training.loop import Plan, train
from motion.training.vae import build_vae

IMAGE_BETAS = SCHEDULES["scaled_linear"]
"""The schedule of SD1.5."""
TEXT_DROP = 0.1
"""Share of captions replaced by the empty one, so that classifier-free guidance has its other side."""


@dataclass(frozen=True)
class Widths:
    """What tells one SD1.5-shaped model from another; the defaults are the sprite world's.

    The UNet has 64 channels from the start: its norms have 32 groups whatever its width, and with one channel in each
    none could carry how bright a picture is.
    """

    unet: tuple[int, ...] = (64, 64, 64, 64)
    vae: tuple[int, ...] = (32, 32, 64, 64)
    text: int = 24
    text_layers: int = 2


class ImageModel(nn.Module):
    """The three networks of an SD1.5 checkpoint."""

    def __init__(self, unet: UNet2DConditionModel, vae: AutoencoderKL, text: CLIPTextModel) -> None:
        super().__init__()
        self.unet, self.vae, self.text = unet, vae, text

    @classmethod
    def build(cls, widths: Widths = Widths()) -> ImageModel:
        """A new model with random weights."""
        vae = build_vae(widths.vae)
        text = CLIPTextConfig(
            vocab_size=49408,
            hidden_size=widths.text,
            intermediate_size=4 * widths.text,
            num_hidden_layers=widths.text_layers,
            num_attention_heads=max(1, widths.text // 64),
            max_position_embeddings=77,
            bos_token_id=49406,
            eos_token_id=49407,
        )
        unet = UNet2DConditionModel(
            sample_size=8, block_out_channels=widths.unet, cross_attention_dim=widths.text, attention_head_dim=8
        )
        return cls(unet, vae, CLIPTextModel(text))

    def freeze(self) -> None:
        """Set up for a recipe, which thaws what it trains."""
        self.eval().requires_grad_(False)
        if self.unet.device.type == "cpu":  # heads of a few channels: plain products beat the fused kernel by a seventh
            self.unet.set_attn_processor(AttnProcessor())

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Token ids ``[n, 77]`` -> the last hidden states, ``[n, 77, width]``."""
        hidden: Tensor = self.text(tokens).last_hidden_state
        return hidden


@dataclass(frozen=True)
class Stage:
    """One stage of the image recipe: name, length, and the schedules that noise its samples, in equal shares."""

    name: str
    plan: Plan
    schedules: tuple[Betas, ...] = (IMAGE_BETAS,)


def train_image(model: ImageModel, clips: LatentClips, stage: Stage, batch: int, folder: Path) -> None:
    """Train text encoder and UNet together on single frames of ``clips``; the autoencoder is frozen."""
    model.freeze()
    learner = nn.ModuleDict({"unet": model.unet, "text": model.text}).train().requires_grad_(True)
    device = model.unet.device
    alphas = torch.stack([betas.alphas_cumprod() for betas in stage.schedules]).float()

    def loss_of(seed: int) -> Tensor:
        rng = np.random.default_rng(seed)
        latents, tokens = clips.stills(rng, batch, TEXT_DROP)
        noise = torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32))
        times = torch.from_numpy(rng.integers(0, alphas.shape[1], batch))
        kept = alphas[torch.from_numpy(rng.integers(0, len(alphas), batch)), times]
        noised = Noised(latents.to(device), noise.to(device), times.to(device), kept.to(device))
        return noise_loss(model.unet, noised, model.encode_text(tokens.to(device)), min_snr)

    train(stage.name, learner, loss_of, stage.plan, folder)
    model.freeze()


@dataclass(frozen=True)
class Noised:
    """Clean, scaled latents ``[n, 4, h, w]`` and the noise to add to them; of each the time step, int ``[n]``, and
    the share of its variance that the schedule keeps there (cumulative alpha)."""

    latents: Tensor
    noise: Tensor
    times: Tensor
    kept: Tensor


def min_snr(ratio: Tensor) -> Tensor:
    """Weight of each sample by its signal-to-noise ratio: ``min(SNR, 5) / SNR`` (Hang et al. 2023)."""
    return ratio.clamp(max=5) / ratio


def debias_weights(ratio: Tensor) -> Tensor:
    """``1 / sqrt(SNR)`` (Yu et al. 2024): more for the noisiest steps, where it is settled what moves where."""
    return ratio.rsqrt()


def noise_loss(unet: nn.Module, noised: Noised, context: Tensor, weight: Callable[[Tensor], Tensor]) -> Tensor:
    """Mean squared error of the predicted noise; ``context`` is the text ``[n, tokens, width]``, ``weight`` gives the
    weight of a sample from its signal-to-noise ratio."""
    signal, spread = (share.sqrt()[:, None, None, None] for share in (noised.kept, 1 - noised.kept))
    predicted = unet(signal * noised.latents + spread * noised.noise, noised.times, context).sample
    error = (predicted - noised.noise).square().mean(dim=(1, 2, 3))
    return (error * weight(noised.kept / (1 - noised.kept))).mean()


Draw = Callable[[np.random.Generator], tuple[Tensor, Tensor]]
"""Draws what a step learns from: latents of clips ``[n, frames, 4, h, w]``, and the tokens or contexts of each."""
Loss = Callable[[np.random.Generator, Tensor, Tensor], Tensor]
"""The loss of what was drawn; the noise comes from the same source."""


def loss_of_seed(draw: Draw, loss: Loss) -> Callable[[int], Tensor]:
    """The loss of a step, given its seed."""

    def loss_of(seed: int) -> Tensor:
        rng = np.random.default_rng(seed)
        return loss(rng, *draw(rng))

    return loss_of
