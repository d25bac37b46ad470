"""Tiny random checkpoints under the original single-file names, one of SD1.5's shape and one of SDXL's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

import motion
from motion.models.motion.architecture import Architecture
from motion.models.motion.model import MotionModel
from motion.weights.formats import ldm
from tests.support.sdxl import sdxl_checkpoint

TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 1}
VAE = {
    "block_out_channels": (32, 32, 64, 64),
    "layers_per_block": 1,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "latent_channels": 4,
}


def sd15_parts() -> tuple[nn.Module, nn.Module, nn.Module]:
    """UNet, VAE and text encoder, every weight drawn from seed 0."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(block_out_channels=(32, 64, 64, 64), cross_attention_dim=32, attention_head_dim=8)
    text = CLIPTextModel(CLIPTextConfig(**TEXT, vocab_size=49408))
    return unet.eval(), AutoencoderKL(**VAE).eval(), text.eval()


def sdxl_parts() -> tuple[nn.Module, nn.Module, nn.Module, nn.Module]:
    """UNet, VAE and both text encoders, every weight drawn from seed 0."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(32, 64, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 2),
        attention_head_dim=(1, 1, 2),
        cross_attention_dim=96,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 64,
    )
    first = CLIPTextModel(CLIPTextConfig(**TEXT, vocab_size=49408))
    wide = {**TEXT, "hidden_size": 64, "hidden_act": "gelu", "projection_dim": 64, "eos_token_id": 49407}
    second = CLIPTextModelWithProjection(CLIPTextConfig(**wide, vocab_size=49408))
    return unet.eval(), AutoencoderKL(**VAE).eval(), first.eval(), second.eval()


def sd15_state() -> dict[str, Tensor]:
    return ldm.to_ldm(*(part.state_dict() for part in sd15_parts()))


def sdxl_state() -> dict[str, Tensor]:
    return sdxl_checkpoint(*sdxl_parts())


def motion_module(widths: tuple[int, ...], family: str) -> MotionModel:
    """A motion module with random weights, also where published training starts from zero."""
    torch.manual_seed(1)
    model = MotionModel(Architecture.of_unet(family, widths))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sd15.safetensors, sdxl.safetensors and the motion modules v3.safetensors, adxl.safetensors."""
    folder = tmp_path_factory.mktemp("tiny")
    save_file(sd15_state(), folder / "sd15.safetensors")
    save_file(sdxl_state(), folder / "sdxl.safetensors")
    save_file(motion_module((32, 64, 64, 64), "v3").state_dict(), folder / "v3.safetensors")
    save_file(motion_module((32, 64, 128), "sdxl").state_dict(), folder / "adxl.safetensors")
    return folder


@pytest.fixture
def sd15_originals() -> tuple[nn.Module, ...]:
    """The models whose weights stand in sd15.safetensors."""
    return sd15_parts()


@pytest.fixture
def sdxl_originals() -> tuple[nn.Module, ...]:
    """The models whose weights stand in sdxl.safetensors."""
    return sdxl_parts()


@pytest.fixture(scope="session")
def v3(tiny: Path) -> MotionModel:
    return motion.load(tiny / "v3.safetensors")
