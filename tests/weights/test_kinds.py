"""Every kind of file that is known is told by its keys, and only a motion module is loaded."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from motion.errors import MotionError
from motion.weights.checkpoint import load
from motion.weights.describe import describe
from motion.weights.kinds import KINDS, MOTION_MODULE, REFUSALS, detect

ATTENTION = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0"
DIFFUSERS = "down_blocks.0.motion_modules.0.transformer_blocks.0.attn1"
UNDERSCORED = ATTENTION.replace(".", "_")
UNET = {"conv_in.weight": [32, 4, 3, 3], "down_blocks.0.resnets.0.conv1.weight": [32, 32, 3, 3]}
LDM = {"model.diffusion_model.input_blocks.0.0.weight": [32, 4, 3, 3], "first_stage_model.encoder.down.0.x": [1]}

# kind, naming, base, a few of its keys with shapes
SAMPLES = [
    ("motion LoRA", "authors", None, {f"{ATTENTION}.processor.to_q_lora.down.weight": [4, 32]}),
    ("motion LoRA", "diffusers", None, {f"unet.{DIFFUSERS}.processor.to_q_lora.down.weight": [4, 32]}),
    ("motion LoRA", "peft", None, {f"unet.{DIFFUSERS}.to_q.lora_A.weight": [4, 32]}),
    ("motion LoRA", "a1111", None, {f"{UNDERSCORED}_to_q.lora_down.weight": [4, 32]}),
    ("motion LoRA", "kohya", None, {f"lora_unet_{UNDERSCORED}_to_q.lora_down.weight": [4, 32]}),
    ("CameraCtrl", "authors", None, {f"{ATTENTION}.processor.qkv_merge.weight": [32, 32]}),
    ("CameraCtrl", "authors", None, {"pose_encoder_state_dict.module.encoder_conv_in.weight": [32, 384, 3, 3]}),
    ("FancyVideo", "authors", None, {"fps_embedding.linear.weight": [32, 8], f"{ATTENTION}.to_q.weight": [32, 32]}),
    ("AnimateLCM-I2V", "authors", None, {"img_encoder.conv_in.weight": [32, 4, 3, 3], f"{ATTENTION}.to_q.weight": [1]}),
    (
        "Tune-A-Video",
        "authors",
        None,
        UNET | {"mid_block.attentions.0.transformer_blocks.0.attn_temp.to_q.weight": [32, 32]},
    ),
    (
        "SparseCtrl",
        "authors",
        None,
        UNET | {f"{ATTENTION}.to_q.weight": [32, 32], "controlnet_cond_embedding.conv_in.weight": [16, 4, 3, 3]},
    ),
    (
        "SparseCtrl",
        "diffusers",
        None,
        UNET | {f"{DIFFUSERS}.to_q.weight": [32, 32], "controlnet_cond_embedding.weight": [32, 5, 3, 3]},
    ),
    ("SparseCtrl", "diffusers", None, UNET | {"controlnet_cond_embedding.weight": [32, 5, 3, 3]}),
    (
        "SparseCtrl",
        "a1111",
        None,
        {"input_hint_block.0.weight": [32, 5, 3, 3], f"{ATTENTION}.to_q.weight": [32, 32], "zero_convs.0.0.bias": [32]},
    ),
    ("PIA", "authors", None, {"conv_in.weight": [32, 9, 3, 3], f"{ATTENTION}.to_q.weight": [32, 32]}),
    ("PIA", "diffusers", None, {"conv_in.weight": [32, 9, 3, 3], f"{DIFFUSERS}.to_q.weight": [32, 32]}),
    ("domain adapter", "authors", None, {"mid_block.attentions.0.x.attn1.processor.to_out_lora.up.weight": [32, 4]}),
    ("Custom Diffusion", "diffusers", None, {"mid_block.a.attn2.processor.to_k_custom_diffusion.weight": [32, 32]}),
    ("Custom Diffusion", "authors", None, {"unet.a.attn2.to_k.weight": [32, 32], "modifier_token.<new1>": [32]}),
    ("LoRA", "kohya", None, {"lora_unet_down_blocks_0_attentions_0_attn1_to_q.lora_up.weight": [32, 4]}),
    ("LoRA", "kohya", None, {"lora_te_text_model_encoder_layers_0_mlp_fc1.hada_w1_a": [32, 4]}),
    ("LoRA", "peft", None, {"unet.down_blocks.0.attentions.0.attn1.to_q.lora_A.weight": [4, 32]}),
    ("LoRA", "diffusers", None, {"unet.down_blocks.0.attentions.0.attn1.processor.to_q_lora.up.weight": [32, 4]}),
    ("checkpoint", "ldm", "sd15", LDM | {"cond_stage_model.transformer.text_model.encoder.layers.0.x": [1]}),
    ("checkpoint", "ldm", "sd2", LDM | {"cond_stage_model.model.token_embedding.weight": [1, 1024]}),
    ("checkpoint", "ldm", "sdxl", LDM | {"conditioner.embedders.1.model.positional_embedding": [77, 1280]}),
    ("checkpoint", "ldm", None, LDM),
    ("checkpoint", "ldm", None, {"model_ema.diffusion_modelinput_blocks00weight": [32, 4, 3, 3]}),
    ("ControlNet", "diffusers", None, UNET | {"controlnet_down_blocks.0.weight": [32, 32, 1, 1]}),
    ("ControlNet", "ldm", None, {"control_model.zero_convs.0.0.weight": [32, 32, 1, 1]}),
    ("IP-Adapter", "authors", None, {"image_proj.proj.weight": [1, 1], "ip_adapter.1.to_k_ip.weight": [1, 1]}),
    ("UNet", "diffusers", None, UNET),
    ("UNet", "ldm", None, {"input_blocks.0.0.weight": [32, 4, 3, 3], "middle_block.0.in_layers.0.weight": [32]}),
    ("VAE", "ldm", None, {"encoder.conv_in.weight": [1, 3, 3, 3], "decoder.up.0.block.0.norm1.weight": [1]}),
    ("VAE", "diffusers", None, {"encoder.down_blocks.0.resnets.0.norm1.weight": [1]}),
    ("text encoder", "transformers", None, {"text_model.encoder.layers.0.mlp.fc1.weight": [1, 1]}),
    ("textual inversion", "a1111", None, {"string_to_param.*": [2, 768]}),
    ("textual inversion", "a1111", None, {"clip_g": [2, 1280], "clip_l": [2, 768]}),
    ("textual inversion", "diffusers", None, {"<cat-toy>": [768]}),
    ("unknown", "unknown", None, {"layers.0.weight": [4, 4]}),
]
MODULES = [
    ("authors", {f"{ATTENTION}.to_q.weight": [32, 32]}),
    ("diffusers", {f"{DIFFUSERS}.to_q.weight": [32, 32]}),
    ("hotshot", {"down_blocks.0.temporal_attentions.0.norm.weight": [32]}),
    # what a training run of the authors saves: the whole UNet
    ("authors", UNET | {f"{ATTENTION}.to_q.weight": [32, 32]}),
]


@pytest.mark.parametrize(("name", "layout", "base", "shapes"), SAMPLES)
def test_a_file_of_another_kind_is_named_and_refused(tmp_path, name, layout, base, shapes):
    path = tmp_path / "some.safetensors"
    save_file({key: torch.zeros(shape) for key, shape in shapes.items()}, path)
    told = describe(path)
    assert (told["kind"], told["layout"], told["base"], told["family"]) == (name, layout, base, None)
    with pytest.raises(MotionError) as caught:
        load(path)
    sentence = str(caught.value)
    assert str(path) in sentence and REFUSALS[name][0] in sentence and sentence.endswith(".")


@pytest.mark.parametrize(("layout", "shapes"), MODULES)
def test_motion_modules_are_told_from_the_rest(layout, shapes):
    kind = detect({key: torch.zeros(shape) for key, shape in shapes.items()})
    assert (kind.name, kind.layout) == (MOTION_MODULE, layout)


def test_every_kind_has_its_sample():
    seen = {(name, layout) for name, layout, _, _ in SAMPLES} | {(MOTION_MODULE, layout) for layout, _ in MODULES}
    assert {(kind.name, kind.layout) for kind in KINDS} <= seen
