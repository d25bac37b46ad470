"""Every family agrees with its authors' code (tests/oracle) to 1e-5."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from einops import rearrange
from safetensors.torch import save_file
from torch import Tensor, nn

import motion
from motion.models.motion.architecture import Architecture
from motion.models.motion.model import MotionModel
from tests.support.small import far

State = dict[str, Tensor]
Oracle = Callable[[str], State]

WIDTHS = (32, 32, 64, 64)
XL_WIDTHS = (32, 32, 64)


def cut(state: State, positions: int) -> State:
    return {key: value[:, :positions] if key.endswith(".pe") else value for key, value in state.items()}


def error(ours: Tensor, theirs: Tensor) -> float:
    return far(ours, rearrange(theirs, "b c f h w -> (b f) c h w"))


def sd15_model(family: str, oracle_of: Oracle) -> MotionModel:
    state = oracle_of("v3_mm")
    if family == "v1":
        return MotionModel.from_state(Architecture.of_unet("v1", WIDTHS, positions=24), cut(state, 24))
    if family == "v2":
        return MotionModel.from_state(Architecture.of_unet("v2", WIDTHS, mid=True), state | oracle_of("v2_mid"))
    return MotionModel.from_state(Architecture.of_unet("v3", WIDTHS), state)


@pytest.mark.parametrize("family", ["v1", "v2", "v3"])
@pytest.mark.parametrize("kind", ["unet", "ldm_unet"])
def test_sd15(kind: str, family: str, oracle_of: Oracle, clip: State, request: pytest.FixtureRequest) -> None:
    unet: nn.Module = request.getfixturevalue(kind)
    with torch.no_grad(), motion.attach(unet, sd15_model(family, oracle_of), frames=16):
        output = unet(clip["x"], clip["t"], clip["c"])
    output = output if isinstance(output, Tensor) else output.sample
    assert error(output, oracle_of(f"{family}_io")["y"]) <= 1e-5


@pytest.fixture(scope="module")
def xl_unet(oracle_of: Oracle) -> nn.Module:
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=XL_WIDTHS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=48,
        attention_head_dim=(4, 4, 8),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=64,
    )
    unet.load_state_dict(oracle_of("sdxl_unet"))
    return unet.eval().requires_grad_(False)


def run_xl(unet: nn.Module, model: MotionModel, io: State) -> Tensor:
    frames = io["x"].shape[2]
    per_frame = {key: io[key].repeat_interleave(frames, 0) for key in ("t", "c", "text_embeds", "time_ids")}
    added = {key: per_frame[key] for key in ("text_embeds", "time_ids")}
    x = rearrange(io["x"], "b c f h w -> (b f) c h w")
    with torch.no_grad(), motion.attach(unet, model, frames):
        return unet(x, per_frame["t"], per_frame["c"], added_cond_kwargs=added).sample


def test_sdxl(xl_unet: nn.Module, oracle_of: Oracle) -> None:
    io = oracle_of("sdxl_io")
    model = MotionModel.from_state(Architecture.of_unet("sdxl", XL_WIDTHS), oracle_of("sdxl_mm"))
    assert error(run_xl(xl_unet, model, io), io["y"]) <= 1e-5


def test_hotshot_in_its_native_names(xl_unet: nn.Module, oracle_of: Oracle, tmp_path: Path) -> None:
    io = oracle_of("hotshot_io")
    native = {
        key.replace("motion_modules", "temporal_attentions")
        .replace("temporal_transformer.", "")
        .replace("pos_encoder.pe", "pos_encoder.positional_encoding"): value.contiguous()
        for key, value in cut(oracle_of("sdxl_mm"), 24).items()
    }
    save_file(native, tmp_path / "hsxl_temporal_layers.safetensors")
    model = motion.load(tmp_path / "hsxl_temporal_layers.safetensors")
    assert model.architecture.family.name == "hotshot"
    assert error(run_xl(xl_unet, model, io), io["y"]) <= 1e-5


def test_both_unet_classes_agree_when_plain(unet: nn.Module, ldm_unet: nn.Module, clip: State) -> None:
    with torch.no_grad():
        ours, theirs = unet(clip["x"], clip["t"], clip["c"]).sample, ldm_unet(clip["x"], clip["t"], clip["c"])
    assert far(ours, theirs) <= 1e-5
