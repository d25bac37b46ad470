"""Writing a checkpoint under the original (CompVis LDM) single-file names, which every WebUI host reads.

Reading goes through diffusers' own converter; this is the way back, for SD1.5's topology at any width.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor

State = Mapping[str, Tensor]

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}

_UNET: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"time_embedding\.linear_1\.", "time_embed.0."),
    (r"time_embedding\.linear_2\.", "time_embed.2."),
    (r"conv_in\.", "input_blocks.0.0."),
    (r"conv_norm_out\.", "out.0."),
    (r"conv_out\.", "out.2."),
    (r"down_blocks\.(\d)\.downsamplers\.0\.conv\.", lambda m: f"input_blocks.{3 * int(m[1]) + 3}.0.op."),
    (r"down_blocks\.(\d)\.resnets\.(\d)\.", lambda m: f"input_blocks.{3 * int(m[1]) + int(m[2]) + 1}.0."),
    (r"down_blocks\.(\d)\.attentions\.(\d)\.", lambda m: f"input_blocks.{3 * int(m[1]) + int(m[2]) + 1}.1."),
    (r"mid_block\.resnets\.(\d)\.", lambda m: f"middle_block.{2 * int(m[1])}."),
    (r"mid_block\.attentions\.0\.", "middle_block.1."),
    # The deepest up block has no attention, so its upsampler is the second layer and not the third.
    (r"up_blocks\.0\.upsamplers\.0\.", "output_blocks.2.1."),
    (r"up_blocks\.(\d)\.upsamplers\.0\.", lambda m: f"output_blocks.{3 * int(m[1]) + 2}.2."),
    (r"up_blocks\.(\d)\.resnets\.(\d)\.", lambda m: f"output_blocks.{3 * int(m[1]) + int(m[2])}.0."),
    (r"up_blocks\.(\d)\.attentions\.(\d)\.", lambda m: f"output_blocks.{3 * int(m[1]) + int(m[2])}.1."),
]

_VAE: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"encoder\.down_blocks\.(\d)\.resnets\.(\d)\.", r"encoder.down.\1.block.\2."),
    (r"encoder\.down_blocks\.(\d)\.downsamplers\.0\.", r"encoder.down.\1.downsample."),
    (r"decoder\.up_blocks\.(\d)\.resnets\.(\d)\.", lambda m: f"decoder.up.{3 - int(m[1])}.block.{m[2]}."),
    (r"decoder\.up_blocks\.(\d)\.upsamplers\.0\.", lambda m: f"decoder.up.{3 - int(m[1])}.upsample."),
    (r"(encoder|decoder)\.mid_block\.resnets\.(\d)\.", lambda m: f"{m[1]}.mid.block_{int(m[2]) + 1}."),
    (r"(encoder|decoder)\.mid_block\.attentions\.0\.", r"\1.mid.attn_1."),
    (r"(encoder|decoder)\.conv_norm_out\.", r"\1.norm_out."),
    (r"(encoder|decoder|quant_conv|post_quant_conv)\.", r"\1."),
]

_VAE_LEAVES = {
    "conv_shortcut": "nin_shortcut",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
    **{"query": "q", "key": "k", "value": "v", "proj_attn": "proj_out"},  # as diffusers named them until 2023
}


def to_ldm(unet: State, vae: State, text: State) -> dict[str, Tensor]:
    """Join the state dicts of diffusers' UNet and VAE and transformers' CLIP text model into one LDM state dict.

    Raises:
        KeyError: a tensor that SD1.5's topology does not have; its name is in the message.
    """
    joined = {f"model.diffusion_model.{unet_name(name)}": tensor for name, tensor in unet.items()}
    joined |= {f"first_stage_model.{vae_name(name)}": _as_conv(name, tensor) for name, tensor in vae.items()}
    joined |= {f"cond_stage_model.transformer.{text_name(name)}": tensor for name, tensor in text.items()}
    return joined


def unet_name(name: str) -> str:
    """diffusers' name of a UNet tensor -> LDM's."""
    renamed = _rename(name, _UNET)
    return (
        re.sub(rf"\.({'|'.join(RESNET)})\.", lambda m: f".{RESNET[m[1]]}.", renamed) if ".resnets." in name else renamed
    )


def vae_name(name: str) -> str:
    """diffusers' name of an autoencoder tensor -> LDM's."""
    leaves = "|".join(map(re.escape, _VAE_LEAVES))
    return re.sub(rf"\.({leaves})\.", lambda m: f".{_VAE_LEAVES[m[1]]}.", _rename(name, _VAE))


def text_name(name: str) -> str:
    """transformers' name of a CLIP text tensor -> LDM's (transformers 5 dropped the ``text_model.`` level)."""
    return "text_model." + name.removeprefix("text_model.")


def _rename(name: str, table: list[tuple[str, str | Callable[[re.Match[str]], str]]]) -> str:
    for pattern, replacement in table:
        renamed, count = re.subn(f"^{pattern}", replacement, name)
        if count:
            return renamed
    raise KeyError(f"{name} has no place in SD1.5's topology")


def _as_conv(name: str, tensor: Tensor) -> Tensor:
    """LDM's autoencoder attends with 1x1 convolutions where diffusers has linear layers."""
    return tensor[:, :, None, None] if ".attentions." in name and tensor.ndim == 2 else tensor
