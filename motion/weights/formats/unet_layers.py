"""The layers of a UNet under the names that LoRA files call them by, whatever layout the UNet itself has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import cache

from torch import nn

from motion.weights.formats import ldm
from motion.weights.formats.lora import UNET_PREFIXES, flat

SDXL_NAMES = {
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "up_blocks.0.upsamplers.0.conv": "output_blocks.2.2.conv",
}
"""The original names of what SDXL has beside or elsewhere than SD1.5."""
_LEVELS = range(4)


def unet_layers(unet: nn.Module) -> dict[str, nn.Module]:
    """The linear layers and convolutions of ``unet``, in diffusers' or in the original layout, by all names that files
    give them, flattened (`motion.weights.formats.lora.flat`)."""
    children = dict(unet.named_children())
    is_sdxl = not children.keys().isdisjoint(("add_embedding", "label_emb"))
    found: dict[str, nn.Module] = {}
    for name, layer in unet.named_modules():
        if is_weighted(layer):
            other = original_name(name, is_sdxl) if "down_blocks" in children else _diffusers_name(name, is_sdxl)
            found |= {f"{prefix}{flat(spelled)}": layer for prefix in UNET_PREFIXES for spelled in (name, other)}
    return found


def is_weighted(layer: nn.Module) -> bool:
    """Whether the layer multiplies by a matrix or a convolution's kernel; hosts have linear layers of their own."""
    weight = layer._parameters.get("weight")
    return weight is not None and weight.ndim > 1


def original_name(name: str, is_sdxl: bool) -> str:
    """The name in the original code of a UNet's layer or block in diffusers."""
    if is_sdxl and name in SDXL_NAMES:
        return SDXL_NAMES[name]
    return ldm.unet_name(f"{name}.weight").removesuffix(".weight")


def _diffusers_name(name: str, is_sdxl: bool) -> str:
    """The other way; what diffusers has no layer for keeps its name."""
    table, parts = _diffusers_names(is_sdxl), name.split(".")
    for end in range(len(parts), 0, -1):
        if (found := table.get(".".join(parts[:end]))) is not None:
            return ".".join([found, *parts[end:]])
    return name


@cache
def _diffusers_names(is_sdxl: bool) -> dict[str, str]:
    """By the original ones."""
    names = {}
    for part in _parts():
        with suppress(KeyError):  # what this base has not
            names[original_name(part, is_sdxl)] = part
    return names


def _parts() -> Iterator[str]:
    """What the original code calls otherwise: layers, and spatial transformers as wholes."""
    yield from ("conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2", *SDXL_NAMES)
    blocks = [f"{kind}_blocks.{level}" for kind in ("down", "up") for level in _LEVELS]
    for block in ("mid_block", *blocks):
        yield from (f"{block}.downsamplers.0.conv", f"{block}.upsamplers.0.conv")
        for number in range(3):
            yield f"{block}.attentions.{number}"
            yield from (f"{block}.resnets.{number}.{leaf}" for leaf in ldm.RESNET)
