"""SDXL checkpoints under their original single-file names, of any width."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from motion.weights.formats import ldm
from motion.weights.formats.unet_layers import SDXL_NAMES

_PLAIN = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
}
_LEAVES = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def sdxl_checkpoint(unet: nn.Module, vae: nn.Module, first: nn.Module, second: nn.Module) -> dict[str, Tensor]:
    """The weights of diffusers' UNet and VAE and of transformers' two text encoders."""
    state = {f"model.diffusion_model.{_unet_name(name)}": tensor for name, tensor in unet.state_dict().items()}
    state |= ldm.to_ldm({}, vae.state_dict(), {})
    text = {ldm.text_name(name): tensor for name, tensor in first.state_dict().items()}
    state |= {f"conditioner.embedders.0.transformer.{name}": tensor for name, tensor in text.items()}
    return state | {f"conditioner.embedders.1.model.{k}": v for k, v in _open_clip(second.state_dict()).items()}


def _unet_name(name: str) -> str:
    layer, _, leaf = name.rpartition(".")
    return f"{SDXL_NAMES[layer]}.{leaf}" if layer in SDXL_NAMES else ldm.unet_name(name)


def _open_clip(text: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """transformers' CLIP text model with projection -> OpenCLIP's names, q, k and v stacked."""
    state = {new: text[old] for old, new in _PLAIN.items()}
    state["text_projection"] = text["text_projection.weight"].T.contiguous()
    layers = 1 + max(int(name.split(".")[3]) for name in text if ".layers." in name)
    for i in range(layers):
        old, new = f"text_model.encoder.layers.{i}.", f"transformer.resblocks.{i}."
        for kind in ("weight", "bias"):
            for leaf, named in _LEAVES.items():
                state[f"{new}{named}.{kind}"] = text[f"{old}{leaf}.{kind}"]
            stacked = [text[f"{old}self_attn.{part}_proj.{kind}"] for part in "qkv"]
            state[f"{new}attn.in_proj_{kind}"] = torch.cat(stacked)
    return state
