"""Random networks for the host's checkpoints, of the kinds that people add to theirs."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import ControlNetModel
from safetensors.torch import save_file
from torch import Tensor, nn

from motion.hosts.standalone.checkpoint import open_parts
from motion.training.files import save_tensors
from motion.weights.formats.ldm import text_name, unet_name

from .models import CHECKPOINT, FULL, link, made_once

LORA, EMBEDDING = "scribbled", "zzxq"
"""What a prompt calls them by."""
CONTROL = "random-control"
"""A ControlNet for the checkpoint of full size."""
RANK = 4
STRENGTH = 0.03
"""Standard deviation of what the LoRA adds to a weight."""
VECTORS = 2
"""Tokens that the embedding stands for."""


def write(data: Path) -> None:
    """Write a LoRA of UNet and text encoder and a textual inversion into a host's data folder, in the widths of the
    checkpoint that lies there, and a ControlNet of SD1.5's size."""
    parts = open_parts(data / "models" / "Stable-diffusion" / f"{CHECKPOINT}.safetensors")
    text = parts.encoders[0].model
    draw = torch.Generator().manual_seed(1)
    state: dict[str, Tensor] = {}
    for prefix, model in (("lora_unet", parts.unet), ("lora_te", text)):
        for name, layer in model.named_modules():
            if isinstance(layer, nn.Linear) and ("attn" in name or "mlp" in name):
                spelled = text_name(name) if model is text else name
                state |= _pair(f"{prefix}_{spelled.replace('.', '_')}", layer.weight.shape, draw)
    vectors = torch.randn(VECTORS, text.config.hidden_size, generator=draw)
    for tensors, path in ((state, f"models/Lora/{LORA}"), ({"emb_params": vectors}, f"embeddings/{EMBEDDING}")):
        file = data / f"{path}.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, file)
    control = made_once("controlnet", lambda partial, _: _write_control(partial / f"{CONTROL}.safetensors"))
    link(data / "models" / "ControlNet" / f"{CONTROL}.safetensors", control / f"{CONTROL}.safetensors")


def _pair(stem: str, shape: torch.Size, draw: torch.Generator) -> dict[str, Tensor]:
    """A layer's two matrices under kohya's names."""
    out, inner = shape
    scale = (STRENGTH / RANK**0.5) ** 0.5
    return {
        f"{stem}.lora_down.weight": scale * torch.randn(RANK, inner, generator=draw),
        f"{stem}.lora_up.weight": scale * torch.randn(out, RANK, generator=draw),
        f"{stem}.alpha": torch.tensor(float(RANK)),
    }


def _write_control(path: Path) -> None:
    """A random ControlNet of SD1.5's size under LDM names, no layer of it at zero."""
    torch.manual_seed(1)
    network = ControlNetModel(block_out_channels=FULL, cross_attention_dim=768, attention_head_dim=8)
    for layer in (*network.controlnet_down_blocks, network.controlnet_mid_block):
        nn.init.normal_(layer.weight, std=0.1)
    nn.init.normal_(network.controlnet_cond_embedding.conv_out.weight, std=1)
    state = {f"control_model.{_control_name(name)}": tensor for name, tensor in network.state_dict().items()}
    save_tensors(state, path, {})


def _control_name(name: str) -> str:
    """diffusers' name of a ControlNet's tensor -> the authors'."""
    part, _, rest = name.partition(".")
    number, _, leaf = rest.partition(".")
    if part == "controlnet_down_blocks":
        return f"zero_convs.{number}.0.{leaf}"
    if part == "controlnet_mid_block":
        return f"middle_block_out.0.{rest}"
    if part != "controlnet_cond_embedding":
        return unet_name(name)
    place = {"conv_in": 0, "conv_out": 14}
    if number in place:
        return f"input_hint_block.{place[number]}.{leaf}"
    block, _, leaf = leaf.partition(".")
    return f"input_hint_block.{2 * int(block) + 2}.{leaf}"
