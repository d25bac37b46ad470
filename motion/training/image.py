"""Second part of the image recipe: text encoder and UNet on stills, by the noise they predict (Ho et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from motion.network.architecture import Betas
from motion.training.data import LatentClips
from motion.training.loop import Plan, train
from motion.training.vae import build_vae

IMAGE_BETAS = Betas("scaled_linear", 0.00085, 0.012)
"""The schedule of SD1.5."""
TEXT_DROP = 0.1
"""Share of captions replaced by the empty one, so that classifier-free guidance has its other side."""
SNR_CAP = 5.0


@dataclass(frozen=True)
class Widths:
    """What tells one SD1.5-shaped model from another; the defaults are the sprite world's."""

    unet: tuple[int, ...] = (32, 64, 64, 64)
    vae: tuple[int, ...] = (32, 32, 64, 64)
    text: int = 32
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

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Token ids ``[n, 77]`` -> the last hidden states, ``[n, 77, width]``."""
        hidden: Tensor = self.text(tokens).last_hidden_state
        return hidden


def train_image(
    model: ImageModel, clips: LatentClips, plan: Plan, batch: int, folder: Path, name: str = "image"
) -> None:
    """Train text encoder and UNet together on single frames of ``clips``; the autoencoder is frozen."""
    model.requires_grad_(False)
    learner = nn.ModuleDict({"unet": model.unet, "text": model.text}).train().requires_grad_(True)
    device = model.unet.device
    alphas = IMAGE_BETAS.alphas_cumprod().to(device)

    def loss_of(seed: int) -> Tensor:
        rng = np.random.default_rng(seed)
        latents, tokens = clips.stills(rng, batch, TEXT_DROP)
        noise = torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32))
        times = torch.from_numpy(rng.integers(0, len(alphas), batch))
        return noise_loss(
            model, latents.to(device), noise.to(device), times.to(device), model.encode_text(tokens.to(device)), alphas
        )

    train(name, learner, loss_of, plan, folder)
    model.eval().requires_grad_(False)


def noise_loss(
    model: ImageModel, latents: Tensor, noise: Tensor, times: Tensor, context: Tensor, alphas: Tensor
) -> Tensor:
    """Mean squared error of the predicted noise, each sample weighed by ``min(SNR, 5) / SNR`` (Hang et al. 2023).

    Args:
        latents: clean, scaled latents ``[n, 4, h, w]``; ``noise`` likewise.
        times: the step of each sample, int ``[n]``.
        context: text embeddings ``[n, tokens, width]``.
        alphas: cumulative alphas of the schedule ``[1000]``.
    """
    kept = alphas[times]
    noisy = kept.sqrt()[:, None, None, None] * latents + (1 - kept).sqrt()[:, None, None, None] * noise
    predicted = model.unet(noisy, times, context).sample
    ratio = kept / (1 - kept)
    weight = ratio.clamp(max=SNR_CAP) / ratio
    return ((predicted - noise).square().mean(dim=(1, 2, 3)) * weight).mean()
