"""The configuration of each part of a checkpoint, read from the shapes in the file: any width, depth or layer count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from motion.weights.formats.names import children

State = Mapping[str, Tensor]


def unet_config(unet: State, sdxl: bool) -> dict[str, Any]:
    """`UNet2DConditionModel`'s arguments for a UNet under LDM names (`input_blocks.0.0.weight`, ...).

    SD1.5 has 8 attention heads at every width, SDXL heads of 64 channels; neither shows in the shapes.
    Raises KeyError naming a tensor that must be there.
    """
    levels = _levels(unet)
    widths = [channels for channels, _, _ in levels]
    depths = [depth for _, _, depth in levels]
    middle = children(unet, "middle_block.1.transformer_blocks.")
    return {
        "in_channels": unet["input_blocks.0.0.weight"].shape[1],
        "out_channels": unet["out.2.weight"].shape[0],
        "block_out_channels": widths,
        "layers_per_block": levels[0][1],
        "down_block_types": [f"{'CrossAttn' if depth else ''}DownBlock2D" for depth in depths],
        "up_block_types": [f"{'CrossAttn' if depth else ''}UpBlock2D" for depth in reversed(depths)],
        # The last level lends its depth to the middle block, also where it has no attention of its own.
        "transformer_layers_per_block": [*(depth or 1 for depth in depths[:-1]), middle],
        "cross_attention_dim": unet["middle_block.1.transformer_blocks.0.attn2.to_k.weight"].shape[1],
        "attention_head_dim": [max(1, width // 64) for width in widths] if sdxl else 8,
        "use_linear_projection": unet["middle_block.1.proj_in.weight"].ndim == 2,
    }


def added_condition_config(label_channels: int, pooled_channels: int) -> dict[str, Any]:
    """The arguments for SDXL's second condition: a pooled text vector beside six embedded picture measures."""
    return {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": (label_channels - pooled_channels) // 6,
        "projection_class_embeddings_input_dim": label_channels,
    }


def vae_config(vae: State, sdxl: bool) -> dict[str, Any]:
    """`AutoencoderKL`'s arguments for an autoencoder under LDM names. Raises KeyError as `unet_config`."""
    levels = range(children(vae, "encoder.down."))
    return {
        "block_out_channels": [vae[f"encoder.down.{i}.block.0.conv1.weight"].shape[0] for i in levels],
        "layers_per_block": children(vae, "encoder.down.0.block."),
        "down_block_types": ["DownEncoderBlock2D" for _ in levels],
        "up_block_types": ["UpDecoderBlock2D" for _ in levels],
        "latent_channels": vae["post_quant_conv.weight"].shape[0],
        "mid_block_add_attention": "encoder.mid.attn_1.q.weight" in vae,
        "scaling_factor": 0.13025 if sdxl else 0.18215,
        # SDXL's decoder overflows in half precision.
        "force_upcast": sdxl,
    }


def clip_config(text: State) -> dict[str, Any]:
    """`CLIPTextConfig`'s arguments for CLIP-L's kind under transformers' names, with `text_model.` in front."""
    tokens = text["text_model.embeddings.token_embedding.weight"]
    return {
        **_text_config(tokens.shape[0], tokens.shape[1]),
        "max_position_embeddings": text["text_model.embeddings.position_embedding.weight"].shape[0],
        "num_hidden_layers": children(text, "text_model.encoder.layers."),
        "intermediate_size": text["text_model.encoder.layers.0.mlp.fc1.weight"].shape[0],
        "hidden_act": "quick_gelu",
    }


def open_clip_config(text: State) -> dict[str, Any]:
    """`CLIPTextConfig`'s arguments for SDXL's second encoder, under OpenCLIP's names."""
    tokens = text["token_embedding.weight"]
    return {
        **_text_config(tokens.shape[0], tokens.shape[1]),
        "max_position_embeddings": text["positional_embedding"].shape[0],
        "num_hidden_layers": children(text, "transformer.resblocks."),
        "intermediate_size": text["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        "hidden_act": "gelu",
        "projection_dim": text["text_projection"].shape[1],
    }


def _text_config(vocabulary: int, width: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_attention_heads": max(1, width // 64),
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": 49407,
    }


def _levels(unet: State) -> list[tuple[int, int, int]]:
    """Channels, ResBlocks and transformer depth of each resolution, from the top."""
    count = children(unet, "input_blocks.")
    downsamplers = [i for i in range(count) if f"input_blocks.{i}.0.op.weight" in unet]
    levels = []
    for before, end in zip([0, *downsamplers], [*downsamplers, count], strict=True):
        width = unet[f"input_blocks.{end - 1}.0.in_layers.2.weight"].shape[0]
        depth = children(unet, f"input_blocks.{end - 1}.1.transformer_blocks.")
        levels.append((width, end - before - 1, depth))
    return levels
