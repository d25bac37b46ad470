"""Where temporal layers and the residuals of a control go in a UNet, read from the UNet's structure alone.

The authors' rule for layers: after the last SpatialTransformer of a block, where it has none after its ResBlock.
Residuals join what the UNet's encoder hands to its decoder: the channels that come last into each decoder ResBlock, and
what leaves the last ResBlock of the middle.
Two families of layouts are known: ldm's (input_blocks, middle_block, output_blocks: AUTOMATIC1111, sgm, Forge,
ldm_patched) and diffusers' (down_blocks, mid_block, up_blocks).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
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
    """All sites of a UNet by slot name, the GroupNorms that some families take over all frames, the layers that do the
    work on each frame by itself, and where it decodes.

    ``transformers`` come with their level: how many times the picture is halved there. ``resamplers`` halve and double
    it. ``middle`` is the last ResBlock before the decoder; ``decoder`` are the ResBlocks whose input is
    ``[(groups frames), hidden + skip, h, w]``, in the order they run.
    """

    by_slot: dict[str, Site]
    resnet_norms: tuple[nn.Module, ...]
    resblocks: tuple[nn.Module, ...]
    transformers: dict[nn.Module, int]
    resamplers: tuple[nn.Module, ...]
    middle: nn.Module
    decoder: tuple[nn.Module, ...]

    @property
    def deep(self) -> frozenset[nn.Module]:
        """All layers between the first convolution and the outermost of the decoder: what is handed to that."""
        everything = {*self.resblocks, *self.transformers, *self.resamplers}
        outermost = [site.layer for name, site in self.by_slot.items() if name.startswith("up_blocks")]
        return frozenset(everything - {*self.decoder[-1:], *outermost[-1:]})


def find(unet: nn.Module) -> Sites:
    """The sites of ``unet``, or of a ControlNet, which has no decoder; MotionError if its layout is not known."""
    if _has(unet, "input_blocks", "middle_block") and (_has(unet, "output_blocks", "out") or _has(unet, "zero_convs")):
        return _ldm(unet)
    if _has(unet, "down_blocks", "mid_block") and (
        _has(unet, "up_blocks", "conv_norm_out") or _has(unet, "controlnet_down_blocks")
    ):
        return _diffusers(unet)
    raise MotionError(
        "this is not the UNet of an SD1.5 or SDXL checkpoint: choose such a checkpoint, or, in Python, give the UNet "
        "itself (ldm's, sgm's, Forge's or diffusers'), not a pipeline or a wrapper."
    )


def cross_attentions(found: Sites) -> list[nn.Module]:
    """The cross-attention (``attn2``) of all spatial transformers in the order of diffusers' attention processors: the
    encoder's, the decoder's, then the middle's."""
    middle = [slot.layer for name, slot in found.by_slot.items() if name.startswith("mid_block")]
    transformers = sorted(found.transformers, key=lambda transformer: transformer in middle)
    blocks = [block for transformer in transformers for block in _children(transformer, "transformer_blocks")]
    return [block.get_submodule("attn2") for block in blocks]


def self_attentions(found: Sites) -> Iterator[tuple[nn.Module, int]]:
    """The self-attention (``attn1``) of all spatial transformers, each with its level.

    Inside a spatial transformer ldm and diffusers agree on names.
    """
    for transformer, level in found.transformers.items():
        for block in _children(transformer, "transformer_blocks"):
            yield block.get_submodule("attn1"), level


def spatial_blocks(unet: nn.Module) -> dict[str, nn.Module]:
    """The blocks in the UNet's spatial transformers by their names in diffusers, whatever its layout.

    MotionError if the layout is not known.
    """
    found = {}
    for slot, site in find(unet).by_slot.items():
        block, _, index = slot.partition(".motion_modules.")
        for number, layer in enumerate(_children(site.layer, "transformer_blocks")):
            found[f"{block}.attentions.{index}.transformer_blocks.{number}"] = layer
    return found


def attention_layers(unet: nn.Module) -> dict[str, nn.Module]:
    """The linear layers of the UNet's spatial attention by their names in diffusers, whatever its layout.

    MotionError if the layout is not known.
    """
    return {
        f"{block}.{name}": layer
        for block, module in spatial_blocks(unet).items()
        for name, layer in module.named_modules()
        if _ATTENTION.fullmatch(name)
    }


_ATTENTION = re.compile(r"attn[12]\.to_(q|k|v|out\.0)")


def widths(channels: Mapping[str, int]) -> str:
    """Channels by slot name, in a sentence that begins with the base whose UNet has as many levels."""
    levels = {name.split(".")[1]: width for name, width in channels.items() if name.startswith("down_blocks")}
    base = {3: "SDXL, ", 4: "SD1.5, "}.get(len(levels), "")
    return f"{base}channels {'/'.join(map(str, levels.values()))} in {len(channels)} layers"


def _ldm(unet: nn.Module) -> Sites:
    levels = {"mid_block": [unet.get_submodule("middle_block")]}
    resamplers: list[nn.Module] = []
    # ldm's Downsample holds its convolution as "op", its Upsample as "conv".
    for kind, blocks, convolution in (("down_blocks", "input_blocks", "op"), ("up_blocks", "output_blocks", "conv")):
        split = _split(_children(unet, blocks), convolution)
        parts = (part for block in _children(unet, blocks) for part in block.children())
        resamplers += [part for part in parts if _resamples(part, convolution)]
        levels |= {f"{kind}.{level}": members for level, members in enumerate(split)}
    sites: dict[str, Site] = {}
    all_resblocks: list[nn.Module] = []
    all_transformers: dict[nn.Module, int] = {}
    decoder: list[nn.Module] = []
    for name, members in levels.items():
        for index, block in enumerate(members):
            resblocks = [part for part in block.children() if _is_resblock(part)]
            transformers = [part for part in block.children() if _has(part, "transformer_blocks")]
            layer = transformers[-1] if transformers else resblocks[0]
            sites[f"{name}.motion_modules.{index}"] = Site(layer, _channels(resblocks[0]))
            all_resblocks += resblocks
            all_transformers |= dict.fromkeys(transformers, _level(name, levels))
            decoder += resblocks[:1] if name.startswith("up_blocks") else []
    norms = [part.get_submodule(norm) for part in all_resblocks for norm in ("in_layers.0", "out_layers.0")]
    middle = [part for part in levels["mid_block"][0].children() if _is_resblock(part)][-1]
    last = [unet.get_submodule("out.0")] if _has(unet, "out") else []
    by_kind = tuple(all_resblocks), all_transformers, tuple(resamplers)
    return Sites(sites, (*norms, *last), *by_kind, middle, tuple(decoder))


def _split(blocks: Iterable[nn.Module], convolution: str) -> list[list[nn.Module]]:
    """The blocks that hold a ResBlock, by levels; a level ends with the block that resamples."""
    levels: list[list[nn.Module]] = [[]]
    for block in blocks:
        parts = list(block.children())
        if any(map(_is_resblock, parts)):
            levels[-1].append(block)
        if any(_resamples(part, convolution) for part in parts):
            levels.append([])
    return levels


def _diffusers(unet: nn.Module) -> Sites:
    blocks = {"mid_block": unet.get_submodule("mid_block")}
    for kind in ("down_blocks", "up_blocks"):
        blocks |= {f"{kind}.{level}": block for level, block in enumerate(_children(unet, kind))}
    sites: dict[str, Site] = {}
    all_resnets: list[nn.Module] = []
    resamplers: list[nn.Module] = []
    all_transformers: dict[nn.Module, int] = {}
    decoder: list[nn.Module] = []
    for name, block in blocks.items():
        resnets = list(_children(block, "resnets"))
        transformers = list(_children(block, "attentions"))
        layers = transformers or resnets
        for index, (layer, resnet) in enumerate(zip(layers, resnets, strict=False)):  # the middle has a ResBlock more
            sites[f"{name}.motion_modules.{index}"] = Site(layer, _channels(resnet))
        all_resnets += resnets
        resamplers += [*_children(block, "downsamplers"), *_children(block, "upsamplers")]
        all_transformers |= dict.fromkeys(transformers, _level(name, blocks))
        decoder += resnets if name.startswith("up_blocks") else []
    norms = [resnet.get_submodule(norm) for resnet in all_resnets for norm in ("norm1", "norm2")]
    middle = list(_children(blocks["mid_block"], "resnets"))[-1]
    last = [unet.get_submodule("conv_norm_out")] if _has(unet, "conv_norm_out") else []
    by_kind = tuple(all_resnets), all_transformers, tuple(resamplers)
    return Sites(sites, (*norms, *last), *by_kind, middle, tuple(decoder))


def _level(block: str, blocks: Iterable[str]) -> int:
    """How many times the picture is halved in that one of the ``blocks``, all by name."""
    deepest = sum(name.startswith("down_blocks") for name in blocks) - 1
    kind, _, number = block.partition(".")
    return {"down_blocks": int(number or 0), "mid_block": deepest}.get(kind, deepest - int(number or 0))


def _has(module: nn.Module, *names: str) -> bool:
    return all(module._modules.get(name) is not None for name in names)


def _resamples(module: nn.Module, convolution: str) -> bool:
    return _has(module, convolution) and not _is_resblock(module)


def _is_resblock(module: nn.Module) -> bool:
    return _has(module, "in_layers", "out_layers")


def _children(module: nn.Module, name: str) -> Iterator[nn.Module]:
    if _has(module, name):
        yield from module.get_submodule(name).children()


def _channels(resblock: nn.Module) -> int:
    return int(resblock.out_channels)  # type: ignore[arg-type]
