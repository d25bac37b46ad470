"""From what an image encoder (CLIP's vision model) makes of a picture to image tokens as wide as the text's.

Three nets of Ye et al. 2023, "IP-Adapter", arXiv:2308.06721, section 3.2.1, and their code; the names of their files.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

HEAD = 64
"""Channels of one head of the resampler's attention."""


class PooledProjection(nn.Module):
    """Of a picture's projected embedding, ``[rows, width]``, a few tokens (ip-adapter_sd15, ip-adapter_sdxl)."""

    def __init__(self, state: Mapping[str, Tensor], channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.norm = nn.LayerNorm(channels)
        self.proj = nn.Linear(state["proj.weight"].shape[1], state["proj.weight"].shape[0])

    @property
    def width(self) -> int:
        """Channels that it takes."""
        return self.proj.in_features

    def forward(self, embeddings: Tensor) -> Tensor:
        """``[rows, tokens, channels]``."""
        return self.norm(rearrange(self.proj(embeddings), "rows (n c) -> rows n c", c=self.channels))


class TokenProjection(nn.Module):
    """Of each hidden state of the encoder's last but one layer, ``[rows, tokens, width]``, a token (full-face)."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        inner, width = state["proj.0.weight"].shape
        channels = state["proj.2.weight"].shape[0]
        self.proj = nn.Sequential(
            nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, channels), nn.LayerNorm(channels)
        )

    @property
    def width(self) -> int:
        """Channels that it takes."""
        return int(self.proj[0].in_features)  # type: ignore[arg-type]

    def forward(self, embeddings: Tensor) -> Tensor:
        """``[rows, tokens, channels]``."""
        tokens: Tensor = self.proj(embeddings)
        return tokens


class Resampler(nn.Module):
    """Of all hidden states of the encoder's last but one layer, ``[rows, tokens, width]``, what learned queries find
    in them (plus): the Perceiver of Alayrac et al. 2022, "Flamingo", arXiv:2204.14198, section 3.1."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        _, count, channels = state["latents"].shape
        depth = len({name.split(".")[1] for name in state if name.startswith("layers.")})
        self.latents = nn.Parameter(torch.empty(1, count, channels))
        self.proj_in = nn.Linear(state["proj_in.weight"].shape[1], channels)
        self.proj_out = nn.Linear(channels, state["proj_out.weight"].shape[0])
        self.norm_out = nn.LayerNorm(self.proj_out.out_features)
        inner = state["layers.0.0.to_q.weight"].shape[0]
        self.layers = nn.ModuleList(
            nn.ModuleList([_Attention(channels, inner), _feed_forward(channels)]) for _ in range(depth)
        )

    @property
    def width(self) -> int:
        """Channels that it takes."""
        return self.proj_in.in_features

    def forward(self, embeddings: Tensor) -> Tensor:
        """``[rows, tokens, channels]``."""
        image, latents = self.proj_in(embeddings), self.latents.expand(len(embeddings), -1, -1)
        for layer in self.layers:
            attention, feed_forward = layer.children()
            latents = latents + attention(image, latents)
            latents = latents + feed_forward(latents)
        return self.norm_out(self.proj_out(latents))


class _Attention(nn.Module):
    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.to_q = nn.Linear(channels, inner, bias=False)
        self.to_kv = nn.Linear(channels, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, channels, bias=False)

    def forward(self, image: Tensor, latents: Tensor) -> Tensor:
        latents = self.norm2(latents)
        keys, values = self.to_kv(torch.cat([self.norm1(image), latents], dim=1)).chunk(2, dim=-1)
        heads = self.to_q.out_features // HEAD
        output: Tensor = self.to_out(attend(self.to_q(latents), keys, values, heads))
        return output


def _feed_forward(channels: int) -> nn.Sequential:
    inner = 4 * channels
    linear = nn.Linear(channels, inner, bias=False), nn.Linear(inner, channels, bias=False)
    return nn.Sequential(nn.LayerNorm(channels), linear[0], nn.GELU(), linear[1])


def attend(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    """Attention of ``[rows, tokens, (heads channels)]``, the same shape as ``queries``."""
    q, k, v = (rearrange(x, "b n (h c) -> b h n c", h=heads) for x in (queries, keys, values))
    return rearrange(F.scaled_dot_product_attention(q, k, v), "b h n c -> b n (h c)")
