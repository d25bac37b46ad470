"""Random networks for the host's checkpoints, of the kinds that people add to theirs."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from motion.hosts.standalone.checkpoint import open_parts
from motion.weights.formats.ldm import text_name

from .models import CHECKPOINT

LORA, EMBEDDING = "scribbled", "zzxq"
"""What a prompt calls them by."""
RANK = 4
STRENGTH = 0.03
"""Standard deviation of what the LoRA adds to a weight."""
VECTORS = 2
"""Tokens that the embedding stands for."""


def write(data: Path) -> None:
    """Write a LoRA of UNet and text encoder and a textual inversion into a host's data folder, in the widths of the
    checkpoint that lies there."""
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


def _pair(stem: str, shape: torch.Size, draw: torch.Generator) -> dict[str, Tensor]:
    """A layer's two matrices under kohya's names."""
    out, inner = shape
    scale = (STRENGTH / RANK**0.5) ** 0.5
    return {
        f"{stem}.lora_down.weight": scale * torch.randn(RANK, inner, generator=draw),
        f"{stem}.lora_up.weight": scale * torch.randn(out, RANK, generator=draw),
        f"{stem}.alpha": torch.tensor(float(RANK)),
    }
