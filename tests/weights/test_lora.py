"""LoRA files: every naming of one LoRA is the same LoRA, and what is none is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from motion.errors import MotionError
from motion.weights.formats.lora import TRIGGER, Lora, load

TEMPORAL = "down_blocks.0.motion_modules.1.temporal_transformer.transformer_blocks.0.attention_blocks.1"
MID = "mid_block.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0"
SPATIAL = "up_blocks.3.attentions.2.transformer_blocks.0.attn2"
LAYERS = [f"{block}.{part}" for block in (TEMPORAL, MID, SPATIAL) for part in ("to_q", "to_k", "to_v", "to_out.0")]
Name = Callable[[str, str], str]


def diffusers(layer: str) -> str:
    plain = layer.replace(".temporal_transformer", "")
    return plain.replace("attention_blocks.0", "attn1").replace("attention_blocks.1", "attn2")


def processor(layer: str, side: str) -> str:
    parent, _, part = layer.removesuffix(".0").rpartition(".")
    return f"{parent}.processor.{part}_lora.{side}.weight"


def motion_director(layer: str, side: str) -> str:
    parent, _, part = layer.rpartition(".")  # its `to_out` is the odd one: to_out.processor.0_lora
    return f"{parent}.processor.{part}_lora.{side}.weight"


def underscored(prefix: str) -> Name:
    return lambda layer, side: f"{prefix}{layer.replace('.', '_')}.lora_{side}.weight"


NAMINGS: dict[str, Name] = {
    "authors": processor,
    "MotionDirector": motion_director,
    "A1111": underscored(""),
    "kohya": underscored("lora_unet_"),
    "kohya, diffusers' layers": lambda layer, side: underscored("lora_unet_")(diffusers(layer), side),
    "diffusers": lambda layer, side: f"unet.{processor(diffusers(layer), side)}",
    "PEFT": lambda layer, side: f"unet.{diffusers(layer)}.lora_{'A' if side == 'down' else 'B'}.weight",
    "PEFT's own file": lambda layer, side: NAMINGS["PEFT of the UNet alone"](f"base_model.model.{layer}", side),
    "PEFT's state dict": lambda layer, side: NAMINGS["PEFT's own file"](layer, side).replace(
        "weight", "default.weight"
    ),
    "PEFT of the UNet alone": lambda layer, side: f"{diffusers(layer)}.lora_{'A' if side == 'down' else 'B'}.weight",
    "diffusers, linear": lambda layer, side: f"unet.{diffusers(layer)}.lora.{side}.weight",
}


def state(layers: list[str], name: Name = processor) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    matrices = {"down": (4, 32), "up": (32, 4)}
    return {
        name(layer, side): torch.randn(shape, generator=draw) for layer in layers for side, shape in matrices.items()
    }


def saved(tensors: dict[str, Tensor], folder: Path, **metadata: str) -> Path:
    path = folder / "some lora.safetensors"
    save_file(tensors, path, metadata)
    return path


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("target", ["motion", "image"])
def test_every_naming_of_a_lora_is_the_same_lora(naming: str, target: str, tmp_path: Path) -> None:
    layers = [layer for layer in LAYERS if (".motion_modules." in layer) == (target == "motion")]
    found = load(saved(state(layers, NAMINGS[naming]), tmp_path))
    expected = state(layers)
    assert (found.name, found.target) == ("some lora", target)
    assert sorted(found.pairs) == sorted(layers)
    for layer, pair in found.pairs.items():
        assert torch.equal(pair.down, expected[processor(layer, "down")])
        assert torch.equal(pair.up, expected[processor(layer, "up")])
        assert pair.scale == 1


def test_half_precision_is_read_as_it_is(tmp_path: Path) -> None:
    halves = {name: tensor.half() for name, tensor in state(LAYERS[:1]).items()}
    pair = load(saved(halves, tmp_path)).pairs[LAYERS[0]]
    assert pair.up.dtype == torch.float32
    assert torch.equal(pair.up, halves[processor(LAYERS[0], "up")].float())


def test_trigger_words_are_those_of_the_metadata(tmp_path: Path) -> None:
    assert load(saved(state(LAYERS[:1]), tmp_path, **{TRIGGER: " slow pan "})).trigger == "slow pan"
    assert load(saved(state(LAYERS[:1]), tmp_path)).trigger == ""


def with_key(key: str, *shape: int) -> dict[str, Tensor]:
    return {**state(LAYERS[:1]), key: torch.zeros(shape)}


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (with_key(f"{TEMPORAL}.processor.to_k_lora.down.weight", 4, 32), "not a plain LoRA .*to_k_lora.up"),
        (with_key("someone.alpha"), "not a plain LoRA .*someone.alpha"),
        (state([TEMPORAL + ".to_x"]), "changes .*to_x.* no motion LoRA and no adapter"),
        (state(["side_blocks.0.motion_modules.0.temporal_transformer.to_q"]), "changes side_blocks"),
        (state(["text_model.encoder.layers.0.self_attn.q_proj"], underscored("lora_te_")), "changes lora_te_.*<lora:"),
        (state(["down_blocks.0.resnets.0.conv1"], underscored("lora_unet_")), "changes lora_unet_down_blocks_0_resn"),
        (state([LAYERS[0], LAYERS[-1]]), "changes motion layers and image layers"),
        (state(LAYERS[:1]) | state(LAYERS[:1], NAMINGS["diffusers"]), "names .*to_q twice"),
        (
            {processor(LAYERS[0], "down"): torch.zeros(4, 32), processor(LAYERS[0], "up"): torch.zeros(32, 5)},
            r"\[32, 5\] and \[4, 32\] .* no product",
        ),
        ({"conv_in.weight": torch.zeros(8, 4, 3, 3), "down_blocks.0.resnets.0.x": torch.zeros(1)}, "UNet"),
        ({f"{TEMPORAL}.to_q.weight": torch.zeros(32, 32)}, "is a motion module, and no LoRA"),
    ],
)
def test_what_is_none_is_named(tensors: dict[str, Tensor], words: str, tmp_path: Path) -> None:
    with pytest.raises(MotionError, match=f"some lora.safetensors .*{words}"):
        load(saved(tensors, tmp_path))


@given(st.lists(st.sampled_from([*".__", "lora", "to_q", "down_blocks", "0", "motion_modules", "attn1", "up", "é"])))
def test_no_name_raises_anything_but_motion_error(scratch: Path, words: list[str]) -> None:
    name = "".join(words)
    tensors = {f"{name}_lora.down.weight": torch.zeros(1, 2), f"{name}_lora.up.weight": torch.zeros(2, 1)}
    try:
        assert isinstance(load(saved(tensors, scratch)), Lora)
    except MotionError as error:
        assert "some lora" in str(error)
