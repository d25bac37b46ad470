"""What one-shot tuning adds to an image model: its queries anew, and temporal attention behind each spatial block."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from einops import rearrange
from torch import Tensor, nn

from motion.errors import MotionError
from motion.models.motion.linear import Linear
from motion.models.motion.temporal import Fusion, TemporalAttention

HEADS = 8
"""Of all attention in SD1.5's UNet; files do not say it."""
QUERIES = ("attn1.to_q", "attn2.to_q")
"""The layers of a spatial block that are tuned: the queries of its self- and of its cross-attention."""


class UnplacedAttention(TemporalAttention):
    """Temporal attention that is not told which frame is which."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, HEADS, None)
        self.pos_encoder = nn.Identity()


class TunedBlock(nn.Module):
    """The layers of one spatial transformer block, named as in the authors' UNet.

    A new one's temporal attention adds nothing: its last projection and the bias in it are zero. (The authors' bias
    keeps torch's random start, so their fresh model is not the image model.)
    """

    def __init__(self, channels: int) -> None:
        if channels % HEADS:
            raise MotionError(f"a block has {channels} channels, which {HEADS} heads do not divide")
        super().__init__()
        self.channels = channels
        for name in QUERIES:
            attention, projection = name.split(".")
            self.add_module(attention, nn.ModuleDict({projection: Linear(channels, channels, bias=False)}))
        self.norm_temp = nn.LayerNorm(channels)
        self.attn_temp = UnplacedAttention(channels)
        for parameter in self.attn_temp.to_out.parameters():
            nn.init.zeros_(parameter)


class FramesAttention(nn.Module):
    """The temporal half of a `TunedBlock`: ``[(groups frames), tokens, C]``, each token along the frames."""

    def __init__(self, block: TunedBlock) -> None:
        super().__init__()
        self.norm, self.attention = block.norm_temp, block.attn_temp

    def forward(self, x: Tensor, frames: int, fusion: Fusion | None = None) -> Tensor:
        tokens = rearrange(x, "(g f) n c -> (g n) f c", f=frames).contiguous()
        moved = self._attend(tokens) if fusion is None else fusion.average(tokens, self._attend)
        return rearrange(moved, "(g n) f c -> (g f) n c", n=x.shape[1])

    def _attend(self, x: Tensor) -> Tensor:
        attended: Tensor = self.attention(self.norm(x)) + x
        return attended


class OneShotModel(nn.Module):
    """The tuned layers of a UNet, in a tree that gives them the names of the authors' files.

    Wu et al. 2022, "Tune-A-Video: One-Shot Tuning of Image Diffusion Models for Text-to-Video Generation",
    arXiv:2212.11565, section 4.
    """

    def __init__(self, channels: Mapping[str, int]) -> None:
        """``channels`` of each spatial block by its name in diffusers (`motion.models.sites.spatial_blocks`)."""
        super().__init__()
        self.names = tuple(channels)
        for name, width in channels.items():
            *path, last = name.split(".")
            node: nn.Module = self
            for part in path:
                if part not in node._modules:
                    node.add_module(part, nn.Module())
                node = node.get_submodule(part)
            node.add_module(last, TunedBlock(width))

    @classmethod
    def of_blocks(cls, blocks: Mapping[str, nn.Module]) -> OneShotModel:
        """A new model for a UNet's spatial ``blocks``, whose queries it begins with; in float32."""
        weights = {
            f"{name}.{layer}.weight": _weight(block, layer) for name, block in blocks.items() for layer in QUERIES
        }
        model = cls({name: len(weights[f"{name}.{QUERIES[0]}.weight"]) for name in blocks})
        model.load_state_dict(weights, strict=False)
        return model

    def thaw(self) -> OneShotModel:
        """Itself, with gradients for what the authors tune: all but the norms."""
        self.requires_grad_(True)
        for block in self.blocks.values():
            block.norm_temp.requires_grad_(False)
        return self

    @property
    def blocks(self) -> dict[str, TunedBlock]:
        """The blocks by name."""
        return {name: self.get_submodule(name) for name in self.names}  # type: ignore[misc]


def _weight(block: nn.Module, layer: str) -> Tensor:
    return block.get_submodule(layer).get_parameter("weight").detach().to("cpu", torch.float32)
