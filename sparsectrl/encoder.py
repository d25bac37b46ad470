"""The SparseCtrl encoder: what key frames add to the UNet, for every frame of the clip.

A copy of the UNet's encoder and middle with temporal layers of its own. It never sees the noisy latents, only the
condition and its mask, the time step and the text; every feature leaves through a zero convolution.
Source: Guo et al. 2023, "SparseCtrl" (arXiv:2311.16933), section 3.2, and the authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from motion.errors import MotionError
from motion.models.motion.architecture import BUILT_POSITIONS, NORM_GROUPS, Slot
from motion.models.motion.temporal import TemporalTransformer
from sparsectrl.blocks import CentredGroupNorm, Downsample, ResBlock, SpatialTransformer, TimeEmbedding
from sparsectrl.presets import PICTURES, SKETCHES

PIXELS_PER_LATENT = 8


@dataclass(frozen=True)
class Shape:
    """What an encoder's file says of it; SD1.5's topology: attention on every level but the last.

    ``widths`` are the channels of each level, ``layers`` its ResBlocks, ``context`` the channels of the text.
    ``condition`` are the channels of a key frame without its mask. Where ``embedding`` is empty, key frames are latents
    and one convolution embeds them (RGB); else they are pixels, and its numbers are the widths of the convolutions that
    bring them down to the latents' size (scribble). ``temporal`` layers have position tables of ``positions`` rows,
    None where a sinusoid is built; without them the encoder is a ControlNet of each frame on its own.
    """

    widths: tuple[int, ...] = (320, 640, 1280, 1280)
    context: int = 768
    condition: int = 4
    embedding: tuple[int, ...] = ()
    temporal: bool = True
    positions: int | None = 32
    layers: int = 2
    latents: int = 4
    heads: int = 8

    def __post_init__(self) -> None:
        if not self.widths or any(width % NORM_GROUPS or width % self.heads for width in self.widths):
            raise MotionError(
                f"an encoder of {'/'.join(map(str, self.widths)) or 'no'} channels cannot be: {NORM_GROUPS} norm "
                f"groups and {self.heads} heads must divide them; the file is damaged or is no SparseCtrl encoder."
            )

    @property
    def max_frames(self) -> int | None:
        """The longest clip that the position tables reach; None: any."""
        return (self.positions or BUILT_POSITIONS) if self.temporal else None

    @property
    def kind(self) -> str:
        """What it is shown: one of the kinds of `sparsectrl.presets`."""
        return SKETCHES if self.embedding else PICTURES

    @property
    def stride(self) -> int:
        """Height of a key frame divided by that of the clip's latents."""
        return PIXELS_PER_LATENT if self.embedding else 1

    def slots(self, level: int) -> list[Slot]:
        """The temporal layers of a level: one attention each, where a motion module has two."""
        names = [f"down_blocks.{level}.motion_modules.{layer}" for layer in range(self.layers * self.temporal)]
        return [Slot(name, self.widths[level], self.positions, attentions=1, heads=self.heads) for name in names]

    @property
    def outputs(self) -> tuple[int, ...]:
        """Channels of each residual for the decoder, from the outside in."""
        levels = [[width] * (self.layers + 1) for width in self.widths]
        return (self.widths[0], *(width for level in levels for width in level))[:-1]


class PixelEmbedding(nn.Module):
    """``[rows, inner, 8 h, 8 w] -> [rows, outer, h, w]``: pairs of convolutions, the second of each strided."""

    def __init__(self, inner: int, widths: tuple[int, ...], outer: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(inner, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for narrow, wide in pairwise(widths):
            self.blocks.append(nn.Conv2d(narrow, narrow, 3, padding=1))
            self.blocks.append(nn.Conv2d(narrow, wide, 3, padding=1, stride=2))
        self.conv_out = zero_module(nn.Conv2d(widths[-1], outer, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.conv_in(x))
        for block in self.blocks:
            x = F.silu(block(x))
        return self.conv_out(x)


class Level(nn.Module):
    """All layers of one resolution."""

    def __init__(self, shape: Shape, level: int) -> None:
        super().__init__()
        width, last = shape.widths[level], len(shape.widths) - 1
        inner = [shape.widths[max(level - 1, 0)], *[width] * (shape.layers - 1)]
        norms = [CentredGroupNorm if level == layer == 0 else nn.GroupNorm for layer in range(shape.layers)]
        self.resnets = nn.ModuleList(
            ResBlock(channels, width, 4 * shape.widths[0], norm) for channels, norm in zip(inner, norms, strict=True)
        )
        self.attentions = nn.ModuleList(
            SpatialTransformer(width, shape.context, shape.heads) for _ in inner if level < last
        )
        self.motion_modules = nn.ModuleList(
            nn.ModuleDict({"temporal_transformer": TemporalTransformer(slot, norm_over_frames=False)})
            for slot in shape.slots(level)
        )
        self.downsamplers = nn.ModuleList(Downsample(width) for _ in range(level < last))

    def forward(self, x: Tensor, time: Tensor, context: Tensor, frames: int, motion: float) -> list[Tensor]:
        features = []
        for layer, resnet in enumerate(self.resnets):
            x = resnet(x, time)
            if self.attentions:
                x = self.attentions[layer](x, context)
            if self.motion_modules and motion:
                x = self.motion_modules[layer].get_submodule("temporal_transformer")(x, frames, motion)
            features.append(x)
        for downsample in self.downsamplers:
            features.append(downsample(x))
        return features


class Middle(nn.Module):
    """The narrowest place: a transformer between two ResBlocks, frame by frame."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.widths[-1]
        self.resnets = nn.ModuleList(ResBlock(width, width, 4 * shape.widths[0]) for _ in range(2))
        self.attentions = nn.ModuleList([SpatialTransformer(width, shape.context, shape.heads)])

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        x = self.resnets[0](x, time)
        x = self.attentions[0](x, context)
        x = self.resnets[1](x, time)
        return x


class Embedding(nn.Module):
    """The layers of ``encoder`` that see a frame's condition and nothing else, so that they are run but once a clip."""

    def __init__(self, encoder: SparseEncoder) -> None:
        super().__init__()
        self.latents = encoder.shape.latents
        self.conv_in = encoder.conv_in
        self.condition = encoder.controlnet_cond_embedding

    def forward(self, condition: Tensor) -> Tensor:
        """``condition [frames, condition + 1, H, W]``, latents or pixels in [0, 1] with the mask as the last channel,
        as features ``[frames, width, h, w]``."""
        noisy_latents = condition.new_zeros(1, self.latents, 1, 1)  # as the authors set them; 1 x 1 will do
        features: Tensor = self.conv_in(noisy_latents) + self.condition(condition)
        return features


class SparseEncoder(nn.Module):
    """One encoder, for `sparsectrl.attach`. A new one adds nothing: its zero convolutions are zero."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        width, inner = shape.widths[0], shape.condition + 1
        self.conv_in = nn.Conv2d(shape.latents, width, 3, padding=1)
        self.time_embedding = TimeEmbedding(width)
        self.controlnet_cond_embedding = (
            PixelEmbedding(inner, shape.embedding, width)
            if shape.embedding
            else zero_module(nn.Conv2d(inner, width, 3, padding=1))
        )
        self.down_blocks = nn.ModuleList(Level(shape, level) for level in range(len(shape.widths)))
        self.mid_block = Middle(shape)
        self.controlnet_down_blocks = nn.ModuleList(zero_module(nn.Conv2d(c, c, 1)) for c in shape.outputs)
        self.controlnet_mid_block = zero_module(nn.Conv2d(shape.widths[-1], shape.widths[-1], 1))

    def forward(
        self,
        embedded: Tensor,
        t: Tensor,
        context: Tensor,
        frames: int | None = None,
        outermost: bool = False,
        motion: float = 1.0,
    ) -> list[Tensor]:
        """The residuals for the UNet's skips, from the outside in, and last the middle's; or the ``outermost`` alone.

        ``embedded [(clips frames), width, h, w]`` is the `Embedding` of every frame of a clip, or of several clips of
        ``frames``; ``t [(groups clips frames)]``; ``context [(groups clips frames), tokens, context]``.
        ``motion`` multiplies what the temporal layers add.
        """
        features = [embedded.repeat(len(context) // len(embedded), 1, 1, 1)]
        if outermost:
            return [self.controlnet_down_blocks[0](features[0])]
        time = self.time_embedding(t)
        for level in self.down_blocks:
            features += level(features[-1], time, context, frames or len(embedded), motion)
        x = self.mid_block(features[-1], time, context)
        skips = [zero(feature) for zero, feature in zip(self.controlnet_down_blocks, features, strict=True)]
        return [*skips, self.controlnet_mid_block(x)]


def zero_module(layer: nn.Conv2d) -> nn.Conv2d:
    """``layer`` with zero weights: training begins from the untouched UNet (Zhang et al. 2023, arXiv:2302.05543)."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
