"""A written checkpoint is what its hosts need: the weights in one file, the widths in the other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextConfig

from motion.hosts.standalone.text.tokens import FILES
from motion.training.files import open_image_model, save_image_model
from motion.training.image import ImageModel

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model() -> ImageModel:
    torch.manual_seed(0)
    return ImageModel.build().eval()


@pytest.fixture(scope="module")
def written(model: ImageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_image_model(model, tmp_path_factory.mktemp("checkpoint") / "sprites.safetensors", {})


@pytest.fixture(scope="module")
def state(written: Path) -> dict[str, Tensor]:
    return load_file(written)


@pytest.fixture(scope="module")
def params(written: Path) -> dict:
    return yaml.safe_load(written.with_suffix(".yaml").read_text())["model"]["params"]


@pytest.fixture(scope="module")
def text_folder(params: dict) -> Path:
    """The folder that the configuration names from the host's own, in this clone of the extension."""
    root, _, inside = params["cond_stage_config"]["params"]["version"].partition("}/")
    assert root == "${oc.env:SD_WEBUI_MOTION,extensions/sd-webui-motion"
    return REPOSITORY / inside


def test_reopens_with_the_same_halves(model: ImageModel, written: Path) -> None:
    read, original = open_image_model(written).state_dict(), model.state_dict()
    assert read.keys() == original.keys()
    assert all(torch.equal(read[name], original[name].half().float()) for name in original)


def test_configuration_has_the_widths_of_the_unet(state: dict[str, Tensor], params: dict) -> None:
    unet, prefix = params["unet_config"]["params"], "model.diffusion_model."
    layers = [1 + level * (unet["num_res_blocks"] + 1) for level in range(len(unet["channel_mult"]))]
    widths = [state[f"{prefix}input_blocks.{layer}.0.out_layers.3.weight"].shape[0] for layer in layers]
    assert [factor * unet["model_channels"] for factor in unet["channel_mult"]] == widths
    assert f"{prefix}input_blocks.{layers[-1] + unet['num_res_blocks']}.0.op.weight" not in state
    assert state[f"{prefix}input_blocks.0.0.weight"].shape[:2] == (unet["model_channels"], unet["in_channels"])
    keys = state[f"{prefix}middle_block.1.transformer_blocks.0.attn2.to_k.weight"]
    assert keys.shape[1] == unet["context_dim"]


def test_configuration_has_the_widths_of_the_autoencoder(state: dict[str, Tensor], params: dict) -> None:
    vae, prefix = params["first_stage_config"]["params"]["ddconfig"], "first_stage_model.encoder."
    levels = range(len(vae["ch_mult"]))
    widths = [state[f"{prefix}down.{level}.block.0.conv1.weight"].shape[0] for level in levels]
    assert [factor * vae["ch"] for factor in vae["ch_mult"]] == widths
    assert state[f"{prefix}conv_in.weight"].shape[:2] == (vae["ch"], vae["in_channels"])
    last = vae["num_res_blocks"] - 1
    assert all(f"{prefix}down.{level}.block.{last}.conv1.weight" in state for level in levels)
    assert not any(f"{prefix}down.{level}.block.{last + 1}.conv1.weight" in state for level in levels)


def test_named_folder_has_the_shape_of_the_text_encoder(model: ImageModel, text_folder: Path) -> None:
    named, ours = json.loads((text_folder / "config.json").read_text()), model.text.config.to_dict()
    assert named.pop("model_type") == CLIPTextConfig.model_type
    assert named.pop("architectures") == [type(model.text).__name__]
    assert named == {field: ours[field] for field in named}
    assert named.keys() >= {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"}
    assert named.keys() >= {"num_attention_heads", "max_position_embeddings", "hidden_act", "layer_norm_eps"}


def test_named_folder_has_the_tokens_that_training_used(text_folder: Path) -> None:
    assert text_folder == FILES
    assert (text_folder / "vocab.json").is_file()
    assert (text_folder / "merges.txt").is_file()
