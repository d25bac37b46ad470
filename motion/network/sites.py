"""Where temporal layers go in a UNet, read from the UNet's structure alone.

Rule of the authors' code: after the last SpatialTransformer of a block, where it has none after its ResBlock.
Two families of layouts are known: ldm's (input_blocks, middle_block, output_blocks: AUTOMATIC1111, sgm, Forge,
ldm_patched) and diffusers' (down_blocks, mid_block, up_blocks).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import nn

from motion.errors import MotionError


@dataclass(frozen=True)
class Site:
    """A layer of the UNet whose output a slot continues."""

    layer: nn.Module
    channels: int


@dataclass(frozen=True)
class Sites:
    """All sites of a UNet by slot name, the GroupNorms that some families take over all frames, and the layers that do
    the work on each frame by itself."""

    by_slot: dict[str, Site]
    resnet_norms: tuple[nn.Module, ...]
    resblocks: tuple[nn.Module, ...]
    transformers: tuple[nn.Module, ...]


def find(unet: nn.Module) -> Sites:
    """The sites of ``unet``; MotionError if its layout is not known."""
    if _has(unet, "input_blocks", "middle_block", "output_blocks", "out"):
        return _ldm(unet)
    if _has(unet, "down_blocks", "mid_block", "up_blocks", "conv_norm_out"):
        return _diffusers(unet)
    raise MotionError(
        f"{type(unet).__name__} is no UNet of a known layout: give the UNet itself "
        "(ldm's, sgm's, Forge's or diffusers'), not a pipeline or a wrapper."
    )


def _ldm(unet: nn.Module) -> Sites:
    levels = {"mid_block": [unet.get_submodule("middle_block")]}
    # ldm's Downsample holds its convolution as "op", its Upsample as "conv".
    for kind, blocks, convolution in (("down_blocks", "input_blocks", "op"), ("up_blocks", "output_blocks", "conv")):
        split = _split(unet.get_submodule(blocks).children(), convolution)
        levels |= {f"{kind}.{level}": members for level, members in enumerate(split)}
    sites: dict[str, Site] = {}
    all_resblocks: list[nn.Module] = []
    all_transformers: list[nn.Module] = []
    for name, members in levels.items():
        for index, block in enumerate(members):
            resblocks = [part for part in block.children() if _is_resblock(part)]
            transformers = [part for part in block.children() if _has(part, "transformer_blocks")]
            layer = transformers[-1] if transformers else resblocks[0]
            sites[f"{name}.motion_modules.{index}"] = Site(layer, _channels(resblocks[0]))
            all_resblocks += resblocks
            all_transformers += transformers
    norms = [part.get_submodule(norm) for part in all_resblocks for norm in ("in_layers.0", "out_layers.0")]
    return Sites(sites, (*norms, unet.get_submodule("out.0")), tuple(all_resblocks), tuple(all_transformers))


def _split(blocks: Iterable[nn.Module], convolution: str) -> list[list[nn.Module]]:
    """The blocks that hold a ResBlock, by levels; a level ends with the block that resamples."""
    levels: list[list[nn.Module]] = [[]]
    for block in blocks:
        parts = list(block.children())
        if any(map(_is_resblock, parts)):
            levels[-1].append(block)
        if any(_has(part, convolution) and not _is_resblock(part) for part in parts):
            levels.append([])
    return levels


def _diffusers(unet: nn.Module) -> Sites:
    blocks = {"mid_block": unet.get_submodule("mid_block")}
    for kind in ("down_blocks", "up_blocks"):
        blocks |= {f"{kind}.{level}": block for level, block in enumerate(unet.get_submodule(kind).children())}
    sites: dict[str, Site] = {}
    all_resnets: list[nn.Module] = []
    all_transformers: list[nn.Module] = []
    for name, block in blocks.items():
        resnets = list(_children(block, "resnets"))
        transformers = list(_children(block, "attentions"))
        layers = transformers or resnets
        for index, (layer, resnet) in enumerate(zip(layers, resnets, strict=False)):  # the middle has a ResBlock more
            sites[f"{name}.motion_modules.{index}"] = Site(layer, _channels(resnet))
        all_resnets += resnets
        all_transformers += transformers
    norms = [resnet.get_submodule(norm) for resnet in all_resnets for norm in ("norm1", "norm2")]
    return Sites(sites, (*norms, unet.get_submodule("conv_norm_out")), tuple(all_resnets), tuple(all_transformers))


def _has(module: nn.Module, *names: str) -> bool:
    return all(module._modules.get(name) is not None for name in names)


def _is_resblock(module: nn.Module) -> bool:
    return _has(module, "in_layers", "out_layers")


def _children(module: nn.Module, name: str) -> Iterator[nn.Module]:
    if _has(module, name):
        yield from module.get_submodule(name).children()


def _channels(resblock: nn.Module) -> int:
    return int(resblock.out_channels)  # type: ignore[arg-type]
