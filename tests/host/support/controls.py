"""Random networks for ControlNet's units, of SD1.5's layout in the widths of the small checkpoint they are tried on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from motion.training.files import save_tensors
from motion.training.image import Widths
from motion.weights.formats.ldm import unet_name

from .models import NARROW, STEPPED, TEXT_WIDTH, link, made_once

CONTROL, ADAPTER, LLLITE, PROMPT = "random-control", "random-t2i", "random-lllite", "random-ip-adapter"
"""A ControlNet, a T2I-Adapter, a ControlLLLite and an IP-Adapter; the second on widening levels alone."""
SEEING: Mapping[str, Any] = {
    **{"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2},
    **{"patch_size": 32, "projection_dim": 32, "initializer_range": 0.5, "hidden_act": "gelu"},
}
"""The configuration of the small encoder of images that stands in for the large one."""
MARK = "vision_model.encoder.layers.22.layer_norm1.weight"
"""By what Forge knows the smallest encoder of images that it knows."""
EMBEDDING, INNER = 32, 16
"""Channels of what ControlLLLite makes of a picture, and within its layers."""
PROMPT_TOKENS = 4
SETTINGS: Mapping[str, Any] = {
    **{"adm_in_channels": None, "in_channels": 4, "model_channels": STEPPED[0], "num_res_blocks": 2},
    **{"attention_resolutions": [1, 2, 4], "transformer_depth": [1, 1, 1, 0], "transformer_depth_middle": 1},
    **{"channel_mult": [width // STEPPED[0] for width in STEPPED], "use_linear_in_transformer": False},
    **{"context_dim": Widths().text, "num_heads": 8, "global_average_pooling": False},
}
"""What sd-webui-controlnet is told of such a ControlNet, where it tells the widths of one from its kind."""


def write(data: Path, any_width: bool) -> None:
    """Put them where a host looks for them, in its ``data`` folder; whether it takes `any_width`, as in `models`."""
    widths, context = (STEPPED, Widths().text) if any_width else (NARROW, TEXT_WIDTH)

    def save(partial: Path, _: Path) -> None:
        torch.manual_seed(1)
        networks = {CONTROL: _control(widths, context), LLLITE: _lllite(widths), PROMPT: _prompt(widths, context)}
        for name, state in {**networks, ADAPTER: _adapter(widths)}.items():
            save_tensors(state, partial / f"{name}.safetensors", {})
        seeing = CLIPVisionModelWithProjection(CLIPVisionConfig(**SEEING)).state_dict()
        # A1111 takes no pickle of a newer PyTorch.
        torch.save(seeing, partial / "seeing.pth", _use_new_zipfile_serialization=False)
        save_tensors({**seeing, MARK: torch.ones(1)}, partial / "seeing.safetensors", {})

    folder = made_once(f"controls-{'-'.join(map(str, widths))}-{context}", save)
    for name in (CONTROL, LLLITE, PROMPT, *([ADAPTER] if any_width else [])):
        link(data / "models" / "ControlNet" / f"{name}.safetensors", folder / f"{name}.safetensors")
    link(data / "clip_vision" / "clip_h.pth", folder / "seeing.pth")  # as sd-webui-controlnet calls it, and as Forge
    link(data / "models" / "ControlNetPreprocessor" / "CLIP-ViT-H-14.safetensors", folder / "seeing.safetensors")


def _control(widths: tuple[int, ...], context: int) -> dict[str, Tensor]:
    """A ControlNet under LDM names, no layer of it at zero."""
    network = ControlNetModel(block_out_channels=widths, cross_attention_dim=context, attention_head_dim=8)
    for layer in (*network.controlnet_down_blocks, network.controlnet_mid_block):
        nn.init.normal_(layer.weight, std=0.3)
    nn.init.normal_(network.controlnet_cond_embedding.conv_out.weight, std=1)
    return {f"control_model.{_control_name(name)}": tensor for name, tensor in network.state_dict().items()}


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


def _layer(name: str, out: int, inner: int, *kernel: int) -> dict[str, Tensor]:
    """A linear layer or, with a ``kernel``, a convolution that keeps the size of what it is given."""
    weight = torch.randn(out, inner, *kernel) / (inner * torch.tensor(kernel).prod()) ** 0.5
    return {f"{name}.weight": weight, f"{name}.bias": torch.zeros(out)}


def _adapter(widths: tuple[int, ...]) -> dict[str, Tensor]:
    """A T2I-Adapter (Mou et al. 2023) of two residual blocks a level, for pictures that are unshuffled 8 x 8."""
    state = _layer("conv_in", widths[0], 3 * 64, 3, 3)
    for level, width in enumerate(widths):
        for block, before in enumerate((widths[max(level - 1, 0)], width)):
            name = f"body.{2 * level + block}"
            if before != width:
                state |= _layer(f"{name}.in_conv", width, before, 1, 1)
            state |= _layer(f"{name}.block1", width, width, 3, 3) | _layer(f"{name}.block2", width, width, 1, 1)
    return state


def _lllite(widths: tuple[int, ...]) -> dict[str, Tensor]:
    """kohya's ControlLLLite before the queries of the levels that go down."""
    state: dict[str, Tensor] = {}
    half = EMBEDDING // 2
    for level, block in ((level, 3 * level + number) for level in range(3) for number in (1, 2)):
        width = widths[level]
        for attention in ("attn1", "attn2"):
            name = f"lllite_unet_input_blocks_{block}_1_transformer_blocks_0_{attention}_to_q"
            # The picture in the size of the level: an eighth, a sixteenth and a thirty-second.
            state |= _layer(f"{name}.conditioning1.0", half, 3, 4, 4)
            seen = [(half, 4), (EMBEDDING, 2)] if level == 2 else [(EMBEDDING, 2 + 2 * level)]
            for place, (channels, side) in enumerate(seen):
                state |= _layer(f"{name}.conditioning1.{2 + 2 * place}", channels, half, side, side)
            state |= _layer(f"{name}.down.0", INNER, width) | _layer(f"{name}.mid.0", INNER, INNER + EMBEDDING)
            state |= _layer(f"{name}.up.0", width, INNER)
    return state


def _prompt(widths: tuple[int, ...], context: int) -> dict[str, Tensor]:
    """An IP-Adapter with a linear projection; its layers are numbered down, up, middle."""
    state = _layer("image_proj.proj", PROMPT_TOKENS * context, SEEING["projection_dim"])
    state |= {"image_proj.norm.weight": torch.ones(context), "image_proj.norm.bias": torch.zeros(context)}
    down, up = [width for width in widths[:3] for _ in range(2)], [w for w in widths[2::-1] for _ in range(3)]
    for number, width in enumerate([*down, *up, widths[3]]):
        for part in ("k", "v"):
            weight = torch.randn(width, context) / context**0.5
            state[f"ip_adapter.{2 * number + 1}.to_{part}_ip.weight"] = weight
    return state
