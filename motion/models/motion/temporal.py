"""The temporal transformer: attention along time, separately at every place of the picture.

After the norm every position is on its own, so the transformer works in one layout, ``(groups h w) frames c``,
entered by one permute and left by one. Parameters carry the names of the published files.
Source: Guo et al. 2023, "AnimateDiff" (arXiv:2307.04725), section 4.2, and the authors' code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from motion.models.motion.architecture import BUILT_POSITIONS, NORM_GROUPS, Slot
from motion.models.motion.linear import Linear, linear

GRID_LIMIT = 65535
"""CUDA's limit for a launch grid's second and third axis; attention kernels put batch x heads there."""

PART = {"cpu": 2**19}
PART_ELSEWHERE = 2**24
"""Elements of ``n f c`` that go through the transformer at once; the feed-forward is eight times as wide inside.
On a CPU that keeps the wide part near the caches (9 % faster at 320 channels and 16 x 16 latents than all at once;
a quarter of it reads the weights too often), elsewhere it bounds the memory (0.25 GiB in float16)."""


def by_clip(x: Tensor, frames: int) -> Tensor:
    """``(g f) ... -> g f ...``"""
    return rearrange(x, "(g f) ... -> g f ...", f=frames)


def over_frames(x: Tensor, frames: int) -> Tensor:
    """``(g f) c h w -> g c f h w``: a GroupNorm of the result has one statistic for all frames of a clip."""
    return rearrange(x, "(g f) c h w -> g c f h w", f=frames)


def per_frame(x: Tensor) -> Tensor:
    """``g c f h w -> (g f) c h w``, the inverse of `over_frames`."""
    return rearrange(x, "g c f h w -> (g f) c h w")


def sinusoid(positions: int, channels: int) -> Tensor:
    """The fixed position table of Vaswani et al. 2017, ``[1, positions, channels]``, sine and cosine interleaved.

    Its device is named, so that it has values even where the model around it is built on "meta".
    """
    position = torch.arange(positions, device="cpu")[:, None]
    rate = torch.exp(torch.arange(0, channels, 2, device="cpu") * (-math.log(10000.0) / channels))
    return torch.stack(((position * rate).sin(), (position * rate).cos()), dim=-1).reshape(1, positions, channels)


class Fusion(NamedTuple):
    """Windows over the frames of a clip, and how what was made of them is averaged.

    ``windows``: the frame at each place of each window, int64 ``[windows length]``. ``place`` and ``share``,
    ``[most f]``: a frame is the sum of its shares times what stands at those places, the windows' places counted
    through. One is added after the other, which is the same sum in every run; scattered on a GPU it would not be.
    """

    windows: Tensor
    place: Tensor
    share: Tensor

    @classmethod
    def of(cls, windows: Sequence[Sequence[int]], shares: Sequence[Sequence[float]], frames: int) -> Fusion:
        """On the CPU in float32, of what each frame of each window counts."""
        places: list[list[tuple[int, float]]] = [[] for _ in range(frames)]
        flat = [pair for pairs in zip(windows, shares, strict=True) for pair in zip(*pairs, strict=True)]
        for place, (frame, share) in enumerate(flat):
            places[frame].append((place, share))
        most = max(map(len, places))
        filled = [[*pairs, *[(pairs[0][0], 0.0)] * (most - len(pairs))] for pairs in places]
        counted = torch.tensor(filled, dtype=torch.float64).permute(2, 1, 0).contiguous()  # [2 most frames]
        return cls(torch.tensor(windows), counted[0].long(), counted[1].float())

    @property
    def numbers(self) -> list[float]:
        """All of them in a row; places are whole numbers below 2**24."""
        found: list[float] = torch.cat([part.flatten().float() for part in self]).numpy().tolist()
        return found

    def over(self, numbers: Tensor, dtype: torch.dtype) -> Fusion:
        """The same, of its `numbers` where these have been sent, the shares in ``dtype``."""
        parts = torch.split(numbers, [part.numel() for part in self])
        windows, place, share = (part.view(own.shape) for part, own in zip(parts, self, strict=True))
        return Fusion(windows.long(), place.long(), share.to(dtype))

    def cut(self, x: Tensor) -> Tensor:
        """The windows of ``n f ...``, ``(n w) l ...``."""
        return x[:, self.windows].flatten(0, 1)

    def average(self, x: Tensor, attend: Callable[[Tensor], Tensor]) -> Tensor:
        """``attend`` on every window of ``n f c``, each from position 0 on."""
        length = self.windows.shape[1]
        seen = attend(self.cut(x))
        seen = rearrange(seen, "(n w) l c -> n (w l) c", n=len(x), l=length)
        total = seen[:, self.place[0]] * self.share[0][:, None]
        for place, share in zip(self.place[1:], self.share[1:], strict=True):
            total = torch.addcmul(total, seen[:, place], share[:, None])
        return total


class PositionTable(nn.Module):
    """Adds a row of the table to every frame of ``n f c``.

    As a bias behind the projections it would be added to three times as many numbers.
    """

    pe: Tensor

    def __init__(self, channels: int, positions: int | None) -> None:
        super().__init__()
        table = sinusoid(positions or BUILT_POSITIONS, channels)
        self.register_buffer("pe", table, persistent=positions is not None)

    def forward(self, x: Tensor) -> Tensor:
        # Hosts that swap memory move modules with a weight only: the table follows the data by itself.
        return x + self.pe[:, : x.shape[1]].to(x)


class Projection(nn.Module):
    """The product with a matrix of its owner's: a layer, so that hooks see what goes in and what comes out."""

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return linear(x, weight)


class TemporalAttention(nn.Module):
    """Self-attention along f of ``n f c``, the keys of each frame times ``scale [n f]``.

    The three projections are one parameter and one matrix product. In state dicts it is split into the files'
    ``to_q.weight``, ``to_k.weight`` and ``to_v.weight``.
    """

    _PARTS = ("to_q.weight", "to_k.weight", "to_v.weight")

    def __init__(self, channels: int, heads: int, positions: int | None) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Parameter(torch.empty(3 * channels, channels))
        self.project = Projection()
        self.to_out = nn.ModuleList([Linear(channels, channels)])
        self.pos_encoder: nn.Module = PositionTable(channels, positions)
        nn.init.uniform_(self.to_qkv, -(channels**-0.5), channels**-0.5)

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        qkv = self.project(self.pos_encoder(x), self.to_qkv)
        q, k, v = rearrange(qkv, "n f (qkv heads d) -> qkv n heads f d", qkv=3, heads=self.heads)
        k = k if scale is None else k * scale[:, None, :, None]
        x = F.scaled_dot_product_attention(q, k, v)
        x = self.to_out[0](rearrange(x, "n heads f d -> n f (heads d)"))
        return x

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        fused = self.to_qkv if keep_vars else self.to_qkv.detach()
        destination.update((prefix + part, weight) for part, weight in zip(self._PARTS, fused.chunk(3), strict=True))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        # torch hands every module a dict of its own to pick from; args are metadata, strict, missing_keys, ...
        missing_keys = args[2]
        names = [prefix + part for part in self._PARTS]
        absent = [name for name in names if name not in state_dict]
        parts = [state_dict.pop(name) for name in names if name in state_dict]
        if not absent:
            state_dict[prefix + "to_qkv"] = torch.cat(parts)
        super()._load_from_state_dict(state_dict, prefix, *args)
        if absent and prefix + "to_qkv" in missing_keys:
            missing_keys.remove(prefix + "to_qkv")
            missing_keys.extend(absent)


class GatedLinear(nn.Module):
    """GEGLU (Shazeer 2020): one projection gives value and gate."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.proj = Linear(channels, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        x, gate = self.proj(x).chunk(2, dim=-1)
        return x * F.gelu(gate)


class FeedForward(nn.Module):
    """GEGLU and a projection back, four times as wide inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # The files count a dropout (without weights) between the two layers.
        self.net = nn.ModuleDict({"0": GatedLinear(channels, 4 * channels), "2": Linear(4 * channels, channels)})

    def forward(self, x: Tensor) -> Tensor:
        x = self.net["2"](self.net["0"](x))
        return x


class TemporalBlock(nn.Module):
    """Pre-norm attention blocks and a pre-norm feed-forward on ``n f c``.

    With a ``fusion`` the attention blocks see its windows, and what they leave of each frame is averaged before the
    feed-forward (Qiu et al. 2023, "FreeNoise", arXiv:2310.15169, section 3.3).
    """

    def __init__(self, slot: Slot) -> None:
        super().__init__()
        self.attention_blocks = nn.ModuleList(
            TemporalAttention(slot.channels, slot.heads, slot.positions) for _ in range(slot.attentions)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(slot.channels) for _ in range(slot.attentions))
        self.ff = FeedForward(slot.channels)
        self.ff_norm = nn.LayerNorm(slot.channels)

    def forward(self, x: Tensor, fusion: Fusion | None = None, scale: Tensor | None = None) -> Tensor:
        if fusion is None:
            x = self._attend(x, scale)
        else:
            x = fusion.average(x, partial(self._attend, scale=None if scale is None else fusion.cut(scale)))
        x = self.ff(self.ff_norm(x)) + x
        return x

    def _attend(self, x: Tensor, scale: Tensor | None) -> Tensor:
        for attention, norm in zip(self.attention_blocks, self.norms, strict=True):
            x = attention(norm(x), scale) + x
        return x


class TemporalTransformer(nn.Module):
    """One slot of a motion module.

    ``forward`` maps ``(groups frames) c h w`` to the same shape, device and dtype: ``x + effect * layer(x)``, where the
    effect is a number, or a tensor that broadcasts to ``x``. ``scale [frames]`` multiplies the keys of the attention:
    at 0 a frame attends to all alike, the larger it is to the fewer. A new layer's last projection is zero, so that it
    begins as the identity.
    """

    def __init__(self, slot: Slot, norm_over_frames: bool) -> None:
        super().__init__()
        self.norm_over_frames = norm_over_frames
        self.heads = slot.heads
        self.norm = nn.GroupNorm(NORM_GROUPS, slot.channels, eps=1e-6)
        self.proj_in = Linear(slot.channels, slot.channels)
        self.transformer_blocks = nn.ModuleList([TemporalBlock(slot)])
        self.proj_out = Linear(slot.channels, slot.channels)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def forward(
        self,
        x: Tensor,
        frames: int,
        effect: float | Tensor = 1.0,
        fusion: Fusion | None = None,
        scale: Tensor | None = None,
    ) -> Tensor:
        height, width = x.shape[-2:]
        if self.norm_over_frames:
            hidden = rearrange(self.norm(over_frames(x, frames)), "g c f h w -> (g h w) f c")
        else:
            hidden = rearrange(self.norm(x), "(g f) c h w -> (g h w) f c", f=frames)
        hidden = hidden.contiguous()  # of a view of one group, matmul would make a product per position
        windows = 1 if fusion is None else len(fusion.windows)
        parts = [self._transform(part, fusion, scale) for part in hidden.chunk(self._parts(hidden, windows))]
        hidden = parts[0] if len(parts) == 1 else torch.cat(parts)
        hidden = rearrange(hidden, "(g h w) f c -> g f c h w", h=height, w=width).to(x.dtype)
        clips = by_clip(x, frames)  # the sum lies as these do, whichever way `hidden` lies
        if isinstance(effect, Tensor):
            moved = clips.addcmul(hidden, by_clip(effect, frames) if len(effect) > 1 else effect)
        else:
            moved = clips.add(hidden, alpha=effect)
        moved = moved.flatten(0, 1)
        # At 1 x 1 the sum may be laid out as `hidden` is, and the UNet's next norm then rounds otherwise.
        return moved if moved.stride() == x.stride() else torch.empty_like(x).copy_(moved)

    def _parts(self, x: Tensor, windows: int) -> int:
        """Positions do not see each other: taken in parts, they bound the kernels' grid and the memory."""
        elements = PART.get(x.device.type, PART_ELSEWHERE)
        return max(math.ceil(x.numel() / elements), math.ceil(len(x) * windows * self.heads / GRID_LIMIT))

    def _transform(self, x: Tensor, fusion: Fusion | None, scale: Tensor | None) -> Tensor:
        x = self.proj_in(x)
        scale = None if scale is None else scale.expand(len(x), -1)
        for block in self.transformer_blocks:
            x = block(x, fusion, scale)
        x = self.proj_out(x)
        return x
