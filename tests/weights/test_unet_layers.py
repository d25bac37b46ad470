"""The layers of a UNet under the names of LoRA files: the same layers in either layout, of both bases."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from motion.weights.formats.lora import flat
from motion.weights.formats.unet_layers import is_weighted, original_name, unet_layers
from tests.support import tiny


def test_both_layouts_have_the_same_layers_under_all_names(unet: nn.Module, ldm_unet: nn.Module) -> None:
    in_diffusers, in_ldm = unet_layers(unet), unet_layers(ldm_unet)
    assert in_diffusers.keys() == in_ldm.keys()
    for name, layer in in_diffusers.items():
        assert torch.equal(layer.get_parameter("weight").flatten(), in_ldm[name].get_parameter("weight").flatten())
    assert {*in_ldm.values()} == {layer for layer in ldm_unet.modules() if is_weighted(layer)}


@pytest.mark.parametrize("is_sdxl", [False, True])
def test_each_layer_is_found_by_the_names_of_all_prefixes(unet: nn.Module, is_sdxl: bool) -> None:
    own: UNet2DConditionModel = tiny.sdxl_parts()[0] if is_sdxl else unet  # type: ignore[assignment]
    layers = unet_layers(own)
    for name, layer in own.named_modules():
        if is_weighted(layer):
            spelled = (
                name,
                f"unet.{name}",
                f"lora_unet_{flat(name)}",
                f"lora_unet_{flat(original_name(name, is_sdxl))}",
            )
            assert all(layers[flat(each)] is layer for each in spelled)


class Names(nn.Module):
    """A UNet in the original layout whose layers lie where those of another in diffusers' are called to lie."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        for name, layer in unet.named_modules():
            if is_weighted(layer):
                self._put(original_name(name, is_sdxl=True).split("."), layer)

    def _put(self, path: list[str], layer: nn.Module) -> None:
        owner: nn.Module = self
        for part in path[:-1]:
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        owner.add_module(path[-1], layer)


def test_sdxl_in_the_original_layout_is_called_by_diffusers_names() -> None:
    unet = tiny.sdxl_parts()[0]
    wanted, found = unet_layers(unet), unet_layers(Names(unet))
    assert wanted.keys() == found.keys()
    assert all(found[name] is layer for name, layer in wanted.items())
