"""One encoder under every published naming is the same encoder, and nothing else is loaded."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import SparseControlNetModel
from safetensors.torch import save_file
from torch import Tensor

import sparsectrl
from motion.errors import MotionError
from motion.weights.describe import describe
from sparsectrl.encoder import Shape, SparseEncoder
from sparsectrl.names import to_a1111

State = dict[str, Tensor]
TABLE = ".transformer_blocks.0.attention_blocks.0.pos_encoder.pe"


def diffusers_name(name: str) -> str:
    if "motion_modules" not in name:
        return name
    for ours, theirs in {
        "temporal_transformer.": "",
        "attention_blocks.0.pos_encoder.": "pos_embed.",
        "attention_blocks.0": "attn1",
        "norms.0": "norm1",
        "ff_norm": "norm3",
    }.items():
        name = name.replace(ours, theirs)
    return name


def same(name: str) -> str:
    return name


NAMINGS: dict[str, Callable[[str], str]] = {
    "authors": same,
    "diffusers": diffusers_name,
    "a1111": to_a1111,
    "a1111, prefixed": lambda name: "control_model." + to_a1111(name),
}


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("kind", ["rgb", "scribble"])
def test_every_naming_gives_the_same_encoder(
    naming: str, kind: str, states: dict[str, State], encoders: dict[str, SparseEncoder], tmp_path: Path
) -> None:
    path = tmp_path / "encoder.safetensors"
    save_file({NAMINGS[naming](name): tensor for name, tensor in states[kind].items()}, path)
    told = describe(path)
    assert (told["kind"], told["layout"]) == ("SparseCtrl", naming.partition(",")[0])
    loaded, wanted = sparsectrl.load(path), encoders[kind]
    assert loaded.shape == wanted.shape
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in wanted.state_dict().items())


def test_the_names_for_a1111_are_a_controlnets_and_ldms(states: dict[str, State]) -> None:
    names = {to_a1111(name) for state in states.values() for name in state}
    assert {
        "input_blocks.0.0.weight",
        "input_hint_block.0.weight",
        "input_hint_block.0.conv_in.weight",
        "time_embed.2.bias",
        "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
        "input_blocks.3.0.op.weight",
        "zero_convs.11.0.weight",
        "middle_block.1.proj_in.weight",
        "middle_block_out.0.bias",
        "down_blocks.3.motion_modules.1.temporal_transformer.proj_out.weight",
    } <= names


def test_the_diffusers_names_are_those_of_its_class(states: dict[str, State]) -> None:
    model = SparseControlNetModel(block_out_channels=(32, 32, 64, 64), cross_attention_dim=48, attention_head_dim=8)
    assert {diffusers_name(name) for name in states["rgb"]} == set(model.state_dict())


@pytest.mark.parametrize("wrapper", ["state_dict", "controlnet"])
def test_a_pickle_in_wrappers(wrapper: str, states: dict[str, State], tmp_path: Path) -> None:
    inner = {f"module.{name}": tensor for name, tensor in states["rgb"].items()} | {"animatediff_config": {"a": 1}}
    torch.save({wrapper: inner, "epoch": 3}, tmp_path / "encoder.ckpt")
    assert sparsectrl.load(tmp_path / "encoder.ckpt").shape == Shape((32, 32, 64, 64), 48)


class Payload:
    def __reduce__(self) -> Any:
        return print, ("run",)


def test_code_in_a_pickle_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.ckpt").write_bytes(pickle.dumps({"x": Payload()}, protocol=2))
    with pytest.raises(MotionError):
        sparsectrl.load(tmp_path / "bad.ckpt")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "shape",
    [
        Shape((32, 64), 48, layers=1),
        Shape((64, 64, 96, 128), 32, positions=24),
        Shape((32, 32), 48, condition=1, embedding=(8, 16, 24, 32), layers=1),  # a depth map
        Shape((32, 32), 48, temporal=False, layers=1),  # a ControlNet of single frames
        Shape((32, 32), 48, positions=None, layers=1),  # without the tables, as the authors load it
    ],
)
def test_the_shape_is_read_from_the_file(shape: Shape, tmp_path: Path) -> None:
    encoder = SparseEncoder(shape).half()
    save_file(encoder.state_dict(), tmp_path / "encoder.safetensors")
    loaded = sparsectrl.load(tmp_path / "encoder.safetensors")
    assert loaded.shape == Shape(**{**vars(shape), "positions": shape.positions if shape.temporal else None})
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.float16}
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"surprise.weight": torch.zeros(1)}, "'surprise.weight' is not part of the encoder"),
        ({"mid_block.resnets.1.conv2.bias": None}, "'mid_block.resnets.1.conv2.bias' is missing"),
        ({"conv_in.weight": None}, "'conv_in.weight' is missing"),
        ({"conv_in.bias": torch.zeros(3)}, r"'conv_in.bias' is torch.float32 \[3\] where floats \[32\] belong"),
        ({"down_blocks.0.resnets.0.conv1.weight": torch.zeros(33, 32, 3, 3)}, "33/32/64/64 channels cannot be"),
        ({f"down_blocks.0.motion_modules.0.temporal_transformer{TABLE}": torch.zeros(1, 9, 7)}, "pos_encoder.pe"),
    ],
)
def test_what_is_amiss_is_named(
    change: dict[str, Tensor | None], words: str, states: dict[str, State], tmp_path: Path
) -> None:
    changed = {**states["rgb"], **change}
    path = tmp_path / "encoder.safetensors"
    save_file({name: tensor for name, tensor in changed.items() if tensor is not None}, path)
    with pytest.raises(MotionError, match=f"{path}: .*{words}"):
        sparsectrl.load(path)


def test_other_files_are_refused_by_name(oracle_of: Callable[[str], State], tmp_path: Path) -> None:
    for name, title in {"v3_mm": "a motion module", "unet": "UNet", "sparse_scribble": "a ControlNet"}.items():
        save_file(oracle_of(name), tmp_path / f"{name}.safetensors")
        with pytest.raises(MotionError, match=f"{name}.safetensors is .*{title}.*and not a SparseCtrl encoder"):
            sparsectrl.load(tmp_path / f"{name}.safetensors")
