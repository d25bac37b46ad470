"""Small random parts, and what is run through the small UNets of `conftest.py` that they fit."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import sparsectrl
from motion.models import sites
from motion.models.motion.architecture import Architecture
from motion.models.motion.model import MotionModel
from motion.sampling.windows import FUSES, SCHEDULES, Windows
from motion.weights.formats.pairs import Pair
from sparsectrl.encoder import Shape, SparseEncoder

WIDTHS = (32, 32, 64, 64)
TEXT = 48
"""Channels of the UNet's levels, and of the text that it reads."""
Inputs = tuple[Tensor, ...]


def random_model(family: str = "v3", widths: tuple[int, ...] = WIDTHS, **shape: Any) -> MotionModel:
    """A motion module whose layers all act."""
    model = MotionModel(Architecture.of_unet(family, widths, **shape))
    for layer in model.slots.values():
        nn.init.normal_(layer.proj_out.weight, std=0.1)
    return model.eval().requires_grad_(False)


def random_encoder(widths: tuple[int, ...] = WIDTHS, context: int = TEXT, **shape: Any) -> SparseEncoder:
    """An encoder that acts: no layer of it is zero."""
    generator = torch.Generator().manual_seed(2)
    encoder = SparseEncoder(Shape(widths, context, **shape))
    for parameter in encoder.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2, generator=generator)
    return encoder.eval().requires_grad_(False)


def random_pair(out: int, inner: int, rank: int = 3) -> Pair:
    """The matrices that a LoRA adds to a projection ``inner -> out``."""
    return Pair(torch.randn(rank, inner) / inner**0.5, 0.2 * torch.randn(out, rank) / rank**0.5, 0.5)


def keyed(*frames: int, clip: int, size: tuple[int, int] = (8, 16), channels: int = 4) -> Tensor:
    """The condition of a clip with random images at those frames."""
    generator = torch.Generator().manual_seed(3)
    return sparsectrl.condition({frame: torch.rand(channels, *size, generator=generator) for frame in frames}, clip)


def batch(frames: int, groups: int = 1, size: tuple[int, int] = (8, 16)) -> tuple[Tensor, Tensor, Tensor]:
    """A UNet's latents, time steps and text: ``groups`` clips in a row, each of whose frames has a text of its own."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(groups * frames, 4, *size, generator=generator)
    return x, torch.full((len(x),), 950), torch.randn(len(x), 7, TEXT, generator=generator)


def rows(inputs: Inputs, wanted: list[int]) -> Inputs:
    """Those rows of the batch, in that order."""
    return tuple(part[wanted] for part in inputs)


def run(unet: nn.Module, inputs: Inputs) -> Tensor:
    """The UNet's prediction, of what it is given in its own dtype."""
    dtype = next(unet.parameters()).dtype
    output = unet(*(part.to(dtype) if part.is_floating_point() else part for part in inputs))
    return output if isinstance(output, Tensor) else output.sample


class Counted:
    """How often the deepest layer of a UNet was computed, in rows."""

    def __init__(self, unet: nn.Module) -> None:
        self.rows: list[int] = []
        self.layer, self.forward = (middle := sites.find(unet).middle), middle.forward

    def __enter__(self) -> list[int]:
        def counting(x: Tensor, *args: Any, **kwargs: Any) -> Any:
            self.rows.append(len(x))
            return self.forward(x, *args, **kwargs)

        self.layer.forward = counting
        return self.rows

    def __exit__(self, *_: object) -> None:
        del self.layer.forward


def far(found: Tensor, wanted: Tensor) -> float:
    """The norm of the difference relative to the norm of what is wanted."""
    return float((found - wanted).norm() / wanted.norm())


def any_windows(most: int) -> st.SearchStrategy[Windows]:
    """Clips of 1 to ``most`` frames in whatever windows, fitting ones or not."""
    return st.builds(
        Windows,
        frames=st.integers(1, most),
        length=st.none() | st.integers(1, 40),
        overlap=st.integers(0, 45),
        stride=st.integers(1, 5),
        schedule=st.sampled_from(list(SCHEDULES)),
        fuse=st.sampled_from(list(FUSES)),
        closed=st.booleans(),
    )
