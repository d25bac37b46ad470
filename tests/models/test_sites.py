from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from motion.errors import MotionError
from motion.models import sites

# slot -> the layer it continues, in either class: the last SpatialTransformer of the block, else its ResBlock
SD15_PLACES = {
    "down_blocks.0.motion_modules.0": ("down_blocks.0.attentions.0", "input_blocks.1.1"),
    "down_blocks.0.motion_modules.1": ("down_blocks.0.attentions.1", "input_blocks.2.1"),
    "down_blocks.1.motion_modules.0": ("down_blocks.1.attentions.0", "input_blocks.4.1"),
    "down_blocks.1.motion_modules.1": ("down_blocks.1.attentions.1", "input_blocks.5.1"),
    "down_blocks.2.motion_modules.0": ("down_blocks.2.attentions.0", "input_blocks.7.1"),
    "down_blocks.2.motion_modules.1": ("down_blocks.2.attentions.1", "input_blocks.8.1"),
    "down_blocks.3.motion_modules.0": ("down_blocks.3.resnets.0", "input_blocks.10.0"),
    "down_blocks.3.motion_modules.1": ("down_blocks.3.resnets.1", "input_blocks.11.0"),
    "mid_block.motion_modules.0": ("mid_block.attentions.0", "middle_block.1"),
    "up_blocks.0.motion_modules.0": ("up_blocks.0.resnets.0", "output_blocks.0.0"),
    "up_blocks.0.motion_modules.1": ("up_blocks.0.resnets.1", "output_blocks.1.0"),
    "up_blocks.0.motion_modules.2": ("up_blocks.0.resnets.2", "output_blocks.2.0"),
    "up_blocks.1.motion_modules.0": ("up_blocks.1.attentions.0", "output_blocks.3.1"),
    "up_blocks.1.motion_modules.1": ("up_blocks.1.attentions.1", "output_blocks.4.1"),
    "up_blocks.1.motion_modules.2": ("up_blocks.1.attentions.2", "output_blocks.5.1"),
    "up_blocks.2.motion_modules.0": ("up_blocks.2.attentions.0", "output_blocks.6.1"),
    "up_blocks.2.motion_modules.1": ("up_blocks.2.attentions.1", "output_blocks.7.1"),
    "up_blocks.2.motion_modules.2": ("up_blocks.2.attentions.2", "output_blocks.8.1"),
    "up_blocks.3.motion_modules.0": ("up_blocks.3.attentions.0", "output_blocks.9.1"),
    "up_blocks.3.motion_modules.1": ("up_blocks.3.attentions.1", "output_blocks.10.1"),
    "up_blocks.3.motion_modules.2": ("up_blocks.3.attentions.2", "output_blocks.11.1"),
}


@pytest.mark.parametrize(("kind", "column"), [("unet", 0), ("ldm_unet", 1)])
def test_places_in_sd15(kind: str, column: int, request: pytest.FixtureRequest) -> None:
    unet: nn.Module = request.getfixturevalue(kind)
    found = sites.find(unet)
    names = {id(module): name for name, module in unet.named_modules()}
    places = {slot: names[id(site.layer)] for slot, site in found.by_slot.items()}
    assert places == {slot: layers[column] for slot, layers in SD15_PLACES.items()}


@pytest.mark.parametrize("kind", ["unet", "ldm_unet"])
def test_channels_and_norms_in_sd15(kind: str, request: pytest.FixtureRequest) -> None:
    found = sites.find(request.getfixturevalue(kind))
    widths = {"down": (32, 32, 64, 64), "up": (64, 64, 32, 32)}
    for slot, site in found.by_slot.items():
        block, _, level = slot.split(".")[0].partition("_")[0], None, slot.split(".")[1]
        assert site.channels == (64 if block == "mid" else widths[block][int(level)])
    norms = found.resnet_norms
    assert len({id(norm) for norm in norms}) == len(norms) == 2 * (8 + 2 + 12) + 1
    assert all(isinstance(norm, nn.GroupNorm) for norm in norms)


@pytest.mark.parametrize(
    ("kind", "middle", "decoder"),
    [
        (
            "unet",
            "mid_block.resnets.1",
            [f"up_blocks.{level}.resnets.{layer}" for level in range(4) for layer in range(3)],
        ),
        ("ldm_unet", "middle_block.2", [f"output_blocks.{block}.0" for block in range(12)]),
    ],
)
def test_where_skips_are_read(kind: str, middle: str, decoder: list[str], request: pytest.FixtureRequest) -> None:
    unet: nn.Module = request.getfixturevalue(kind)
    found = sites.find(unet)
    assert found.middle is unet.get_submodule(middle)
    assert list(found.decoder) == [unet.get_submodule(name) for name in decoder]


def test_places_in_sdxl() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=(32, 64, 128),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 3),
        )
    found = sites.find(unet).by_slot
    assert found["down_blocks.0.motion_modules.1"].layer is unet.down_blocks[0].resnets[1]
    assert found["up_blocks.0.motion_modules.2"].layer is unet.up_blocks[0].attentions[2]
    assert len(found) == 15 + 1  # and the middle, which no published SDXL module fills


def test_another_module_is_refused() -> None:
    with pytest.raises(MotionError, match=r"^this is not the UNet of an SD1\.5 or SDXL checkpoint"):
        sites.find(nn.Linear(1, 1))
