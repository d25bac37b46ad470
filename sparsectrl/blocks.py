"""The layers of Stable Diffusion's UNet encoder on ``[rows, channels, height, width]``, one row per frame.

Parameters carry diffusers' names, which the published SparseCtrl files have. Sources: Ho et al. 2020 (arXiv:2006.11239)
for the time embedding and the ResBlock, Rombach et al. 2022 (arXiv:2112.10752), section 3.3, for the attention to text.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from motion.models.motion.architecture import NORM_GROUPS
from motion.models.motion.linear import Linear
from motion.models.motion.temporal import FeedForward


def timestep_features(t: Tensor, channels: int) -> Tensor:
    """Cosines, then sines, of ``t [rows]`` at rates from 1 down to 1/10000: float32 ``[rows, channels]``."""
    half = channels // 2
    rates = torch.exp(torch.arange(half, device=t.device, dtype=torch.float32) * (-math.log(10000.0) / half))
    angles = t.float()[:, None] * rates
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


class TimeEmbedding(nn.Module):
    """``t [rows] -> [rows, 4 channels]``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.linear_1 = Linear(channels, 4 * channels)
        self.linear_2 = Linear(4 * channels, 4 * channels)

    def forward(self, t: Tensor) -> Tensor:
        x = timestep_features(t, self.channels).to(self.linear_1.weight.dtype)
        x = self.linear_2(F.silu(self.linear_1(x)))
        return x


class CentredGroupNorm(nn.GroupNorm):
    """The same norm, exact to rounding where a group hardly varies.

    torch computes ``x * scale + shift``. Of frames without a key every place is the same, so ``scale`` is near
    ``eps ** -0.5`` and the two terms cancel: 3e-5 off in float32, 2e-6 when the mean is taken off before.
    """

    def forward(self, x: Tensor) -> Tensor:
        groups = x.reshape(len(x), self.num_groups, -1)
        x = super().forward((groups - groups.mean(-1, keepdim=True)).reshape(x.shape))
        return x


class ResBlock(nn.Module):
    """Two convolutions, the time embedding between them, beside a shortcut; ``norm`` is the first norm's class."""

    def __init__(self, inner: int, outer: int, time: int, norm: type[nn.GroupNorm] = nn.GroupNorm) -> None:
        super().__init__()
        self.norm1 = norm(NORM_GROUPS, inner)
        self.conv1 = nn.Conv2d(inner, outer, 3, padding=1)
        self.time_emb_proj = Linear(time, outer)
        self.norm2 = nn.GroupNorm(NORM_GROUPS, outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inner, outer, 1) if inner != outer else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = hidden + self.time_emb_proj(F.silu(time))[:, :, None, None]
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        return self.conv_shortcut(x) + hidden


class Attention(nn.Module):
    """``x [rows, n, channels]`` attends to ``context [rows, m, context channels]``."""

    def __init__(self, channels: int, context: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = Linear(channels, channels, bias=False)
        self.to_k = Linear(context, channels, bias=False)
        self.to_v = Linear(context, channels, bias=False)
        self.to_out = nn.ModuleList([Linear(channels, channels)])

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        q, k, v = (
            rearrange(part, "b n (heads d) -> b heads n d", heads=self.heads)
            for part in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        x = F.scaled_dot_product_attention(q, k, v)
        x = self.to_out[0](rearrange(x, "b heads n d -> b n (heads d)"))
        return x


class TransformerBlock(nn.Module):
    """Attention to the picture itself, attention to the text, and a feed-forward, each behind a norm."""

    def __init__(self, channels: int, context: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels, channels, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = Attention(channels, context, heads)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        normed = self.norm1(x)
        x = self.attn1(normed, normed) + x
        x = self.attn2(self.norm2(x), context) + x
        x = self.ff(self.norm3(x)) + x
        return x


class SpatialTransformer(nn.Module):
    """One transformer block over the places of each picture."""

    def __init__(self, channels: int, context: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(NORM_GROUPS, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, context, heads)])
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        hidden = rearrange(self.proj_in(self.norm(x)), "b c h w -> b (h w) c")
        for block in self.transformer_blocks:
            hidden = block(hidden, context)
        hidden = rearrange(hidden, "b (h w) c -> b c h w", h=height, w=width)
        return self.proj_out(hidden) + x


class Downsample(nn.Module):
    """Half the height and width, by a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x
