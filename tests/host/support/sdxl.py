"""A random checkpoint that hosts take for SDXL, and a motion module for it.

Its text encoders are of SDXL's size, its UNet as deep and as wide in the outermost level, and no wider further in.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from motion.training.files import save_tensors
from tests.support.sdxl import sdxl_checkpoint

from .models import link, made_once, random_vae, text_config, write_module, write_text_folder

CHECKPOINT, MODULE = "wide-xl", "moving-xl"
WIDTHS = (320, 320, 320)
DEPTHS = (1, 2, 10)
"""Transformer blocks in a layer of each level; the outermost has none."""
SCALE = 0.13025
"""What latents of SDXL's autoencoder are multiplied by."""


def place(data: Path, config: bool) -> None:
    """Put both into a host's data folder, with a .yaml if the host is to read a `config`."""
    made = made_once("xl", _write)
    folders = {CHECKPOINT: "Stable-diffusion", MODULE: "motion"}
    for name, folder in folders.items():
        link(data / "models" / folder / f"{name}.safetensors", made / f"{name}.safetensors")
    if config:
        link(data / "models" / folders[CHECKPOINT] / f"{CHECKPOINT}.yaml", made / f"{CHECKPOINT}.yaml")


def checkpoint() -> Path:
    return made_once("xl", _write) / f"{CHECKPOINT}.safetensors"


def module() -> Path:
    return made_once("xl", _write) / f"{MODULE}.safetensors"


def _write(partial: Path, folder: Path) -> None:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=WIDTHS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=DEPTHS,
        attention_head_dim=5,
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )
    second = CLIPTextConfig(
        hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, hidden_act="gelu",
        projection_dim=1280, eos_token_id=49407,
    )  # fmt: skip
    parts = random_vae(scaling_factor=SCALE), CLIPTextModel(text_config()), CLIPTextModelWithProjection(second)
    save_tensors(sdxl_checkpoint(unet, *parts), partial / f"{CHECKPOINT}.safetensors", {})
    write_module(partial / f"{MODULE}.safetensors", "sdxl", WIDTHS)
    write_text_folder(partial / "clip")
    # JSON is YAML as well
    (partial / f"{CHECKPOINT}.yaml").write_text(json.dumps(_config(folder / "clip")))


def _config(text_folder: Path) -> object:
    """What the sgm code base needs to build it, told by its class names."""

    def part(target: str, **params: object) -> dict[str, object]:
        return {"target": f"sgm.{target}", "params": params}

    def embedder(name: str, key: str, **params: object) -> dict[str, object]:
        return {"is_trainable": False, "input_key": key, **part(f"modules.encoders.modules.{name}", **params)}

    schedule = "modules.diffusionmodules"
    sizes = ("original_size_as_tuple", "crop_coords_top_left", "target_size_as_tuple")
    embedders = [
        embedder("FrozenCLIPEmbedder", "txt", layer="hidden", layer_idx=11, version=str(text_folder)),
        embedder(
            "FrozenOpenCLIPEmbedder2", "txt", arch="ViT-bigG-14", version="", freeze=True, layer="penultimate",
            always_return_pooled=True, legacy=False,
        ),
        *(embedder("ConcatTimestepEmbedderND", size, outdim=256) for size in sizes),
    ]  # fmt: skip
    unet = part(
        f"{schedule}.openaimodel.UNetModel", adm_in_channels=2816, num_classes="sequential", use_checkpoint=False,
        in_channels=4, out_channels=4, model_channels=WIDTHS[0], attention_resolutions=[4, 2], num_res_blocks=2,
        channel_mult=[width // WIDTHS[0] for width in WIDTHS], num_head_channels=64, use_spatial_transformer=True,
        use_linear_in_transformer=True, transformer_depth=list(DEPTHS), context_dim=2048, legacy=False,
        spatial_transformer_attn_type="softmax",
    )  # fmt: skip
    autoencoder = {
        "attn_type": "vanilla", "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3,
        "ch": 128, "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0,
    }  # fmt: skip
    denoiser = part(
        f"{schedule}.denoiser.DiscreteDenoiser",
        num_idx=1000,
        weighting_config=part(f"{schedule}.denoiser_weighting.EpsWeighting"),
        scaling_config=part(f"{schedule}.denoiser_scaling.EpsScaling"),
        discretization_config=part(f"{schedule}.discretizer.LegacyDDPMDiscretization"),
    )
    first_stage = part(
        "models.autoencoder.AutoencoderKLInferenceWrapper", embed_dim=4, ddconfig=autoencoder,
        lossconfig={"target": "torch.nn.Identity"},
    )  # fmt: skip
    engine = part(
        "models.diffusion.DiffusionEngine", scale_factor=SCALE, disable_first_stage_autocast=True,
        denoiser_config=denoiser, network_config=unet, first_stage_config=first_stage,
        conditioner_config=part("modules.GeneralConditioner", emb_models=embedders),
    )  # fmt: skip
    return {"model": engine}
