"""Opening image models: from shapes alone, every weight in its place, everything else refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from motion.errors import MotionError
from motion.hosts.standalone import Standalone, shapes
from motion.hosts.standalone.checkpoint import open_parts
from motion.hosts.standalone.parts import Parts
from motion.hosts.standalone.tokens import clip_tokenizer
from tests.support.small import far


def assert_same(parts: Parts, originals: tuple[nn.Module, ...]) -> None:
    opened = (parts.unet, parts.vae, *(encoder.model for encoder in parts.encoders))
    for ours, theirs in zip(opened, originals, strict=True):
        ours, theirs = ours.state_dict(), theirs.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name].float(), theirs[name].float()) for name in theirs)


@pytest.fixture
def state(tiny: Path) -> dict[str, Tensor]:
    return load_file(tiny / "sd15.safetensors")


def saved(state: dict[str, Tensor], folder: Path) -> Path:
    save_file(state, folder / "model.safetensors")
    return folder / "model.safetensors"


def test_every_weight_of_sd15_comes_back(tiny: Path, sd15_originals: tuple[nn.Module, ...]) -> None:
    parts = open_parts(tiny / "sd15.safetensors")
    assert parts.base == "sd15"
    assert_same(parts, sd15_originals)


def test_every_weight_of_sdxl_comes_back(tiny: Path, sdxl_originals: tuple[nn.Module, ...]) -> None:
    parts = open_parts(tiny / "sdxl.safetensors")
    assert parts.base == "sdxl"
    assert_same(parts, sdxl_originals)


def test_the_models_compute_what_the_originals_do(tiny: Path, sdxl_originals: tuple[nn.Module, ...]) -> None:
    """Equal weights in a model of another configuration would give other numbers."""
    parts, (unet, vae, *_) = open_parts(tiny / "sdxl.safetensors"), sdxl_originals
    torch.manual_seed(2)
    context, added = torch.randn(1, 77, 96), {"text_embeds": torch.randn(1, 64), "time_ids": torch.ones(1, 6)}
    arguments: dict[str, Any] = {"encoder_hidden_states": context, "added_cond_kwargs": added, "return_dict": False}
    latents = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        assert far(parts.unet(latents, 5, **arguments)[0], unet(latents, 5, **arguments)[0]) <= 1e-5
        assert far(parts.vae.decode(latents).sample, vae.decode(latents).sample) <= 1e-5


def test_published_sizes_are_read_from_published_shapes() -> None:
    """SDXL's own UNet and text encoder, known by a handful of their shapes."""
    unet = {"input_blocks.0.0.weight": (320, 4, 3, 3), "out.2.weight": (4, 320, 3, 3)}
    for block, width, depth in ((1, 320, 0), (2, 320, 0), (4, 640, 2), (5, 640, 2), (7, 1280, 10), (8, 1280, 10)):
        unet[f"input_blocks.{block}.0.in_layers.2.weight"] = (width, width, 3, 3)
        unet |= {f"input_blocks.{block}.1.transformer_blocks.{i}.norm1.weight": (width,) for i in range(depth)}
    unet |= {f"input_blocks.{block}.0.op.weight": (1, 1, 3, 3) for block in (3, 6)}
    unet |= {f"middle_block.1.transformer_blocks.{i}.attn2.to_k.weight": (1280, 2048) for i in range(10)}
    unet["middle_block.1.proj_in.weight"] = (1280, 1280)
    config = shapes.unet_config({name: torch.empty(shape, device="meta") for name, shape in unet.items()}, sdxl=True)
    assert config["block_out_channels"] == [320, 640, 1280]
    assert config["attention_head_dim"] == [5, 10, 20]
    assert config["transformer_layers_per_block"] == [1, 2, 10]
    assert config["down_block_types"] == ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"]
    assert (config["layers_per_block"], config["cross_attention_dim"]) == (2, 2048)
    assert shapes.added_condition_config(2816, 1280)["addition_time_embed_dim"] == 256


def test_files_as_they_are_found(state: dict[str, Tensor], tmp_path: Path, sd15_originals: Any) -> None:
    """Half precision, moving averages, position ids, text keys of 2022, and a pickle."""
    found = {key.replace("transformer.text_model.", "transformer."): tensor.half() for key, tensor in state.items()}
    found |= {f"model_ema.{i}": torch.zeros(1) for i in range(200)}
    found["cond_stage_model.transformer.embeddings.position_ids"] = torch.arange(77)[None]
    torch.save({"state_dict": found, "global_step": 1}, tmp_path / "old.ckpt")
    parts = open_parts(tmp_path / "old.ckpt")
    assert parts.unet.dtype == torch.float16
    assert_same(parts, tuple(part.half() for part in sd15_originals))


def test_a_diffusers_folder_is_the_same_model(tmp_path: Path, sd15_originals: tuple[nn.Module, ...]) -> None:
    folder = tmp_path / "folder"
    written_folder(folder, sd15_originals)
    assert_same(open_parts(folder), sd15_originals)


def written_folder(folder: Path, originals: tuple[nn.Module, ...]) -> None:
    unet, vae, text = originals
    clip_tokenizer().save_pretrained(folder / "tokenizer")
    for name, part in (("unet", unet), ("vae", vae), ("text_encoder", text), ("scheduler", DDIMScheduler())):
        part.save_pretrained(folder / name)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": StableDiffusionPipeline.__name__}))


def renamed(state: dict[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    return {key.replace(old, new): tensor for key, tensor in state.items()}


def with_conv_in(state: dict[str, Tensor], channels: int) -> dict[str, Tensor]:
    return {**state, "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(32, channels, 3, 3)}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: renamed(s, "cond_stage_model.transformer.", "cond_stage_model.model."), "Stable Diffusion 2"),
        (lambda s: renamed(s, "cond_stage_model.", "conditioner.embedders.0.model."), "SDXL refiner"),
        (lambda s: {**s, "v_pred": torch.zeros(0)}, "v-prediction"),
        (lambda s: with_conv_in(s, 9), "inpainting"),
        (lambda s: with_conv_in(s, 6), "6 latent channels"),
        (lambda s: {k: v for k, v in s.items() if not k.startswith("first_stage_model.")}, "no VAE"),
        (lambda s: {k: v for k, v in s.items() if not k.startswith("cond_stage_model.")}, "lacks"),
        (lambda s: {k: v for k, v in s.items() if k != "model.diffusion_model.out.2.bias"}, "lacks .*conv_out.bias"),
        (
            lambda s: {**s, "model.diffusion_model.out.0.weight": torch.zeros(7)},
            "cannot be made a Stable Diffusion model",
        ),
        (lambda s: {"some.lora_down.weight": torch.zeros(4, 4), "some.lora_up.weight": torch.zeros(4, 4)}, "LoRA"),
    ],
)
def test_other_models_are_refused_by_name(state: Any, change: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(MotionError, match=sentence) as raised:
        open_parts(saved(change(state), tmp_path))
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("index", "sentence"),
    [(None, "without model_index.json"), ({"_class_name": "FluxPipeline"}, "FluxPipeline"), ("[", "cannot be made")],
)
def test_other_folders_are_refused_by_name(index: Any, sentence: str, tmp_path: Path) -> None:
    if index is not None:
        (tmp_path / "model_index.json").write_text(index if isinstance(index, str) else json.dumps(index))
    with pytest.raises(MotionError, match=sentence):
        open_parts(tmp_path)


def test_devices_and_dtypes_that_are_not_there_are_refused(tiny: Path) -> None:
    for options in ({"device": "tpu"}, {"device": "cpu:3"}, {"device": "cuda:99"}, {"dtype": "int8"}):
        with pytest.raises(MotionError, match=f"{next(iter(options.values()))}: (choose|this machine)"):
            Standalone.open(tiny / "sd15.safetensors", **options)
    with pytest.raises(MotionError, match="does not exist"):
        Standalone.open(tiny / "nothing.safetensors")
