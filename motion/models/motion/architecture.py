"""The published families of motion modules, and the shape of one file.

A family fixes what its file cannot say: which GroupNorms see all frames of a clip at once, and the noise
schedule the layers were trained with. Everything else (widths, layers, position tables) is read from the file.
Sources: the authors' configurations and code, guoyww/AnimateDiff (main and sdxl branches), G-U-N/AnimateLCM,
hotshotco/Hotshot-XL.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from motion.errors import MotionError

BUILT_POSITIONS = 64
"""Length of the sinusoid built for files that carry no position table (AnimateLCM's own length)."""

NORM_GROUPS = 32
"""Groups of every GroupNorm in the published modules."""

LEAST_ALPHA = 4.8973451890853435e-08
"""What the hosts let stand for the last cumulative alpha at zero terminal SNR: of 0 samplers make an infinite sigma."""


def zero_terminal_snr(alphas_cumprod: Tensor) -> Tensor:
    """The same schedule, ``[steps]``, shifted and scaled so that its last step is noise alone.

    Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed" (arXiv:2305.08891), algorithm 1,
    with `LEAST_ALPHA` for the 0 at its end.
    """
    roots = alphas_cumprod.sqrt()
    scaled = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
    return torch.cat([scaled[:-1] ** 2, scaled.new_full((1,), LEAST_ALPHA)])


@dataclass(frozen=True)
class Betas:
    """A noise schedule, in diffusers' words (ldm calls "scaled_linear" "linear", and "linear" "sqrt_linear").

    ``linear``:         beta_t = start + (end - start) * t / (steps - 1)
    ``scaled_linear``:  beta_t = (sqrt(start) + (sqrt(end) - sqrt(start)) * t / (steps - 1)) ** 2
    """

    schedule: Literal["linear", "scaled_linear"]
    start: float
    end: float

    def values(self, steps: int = 1000) -> Tensor:
        """The betas, ``[steps]`` in float64."""
        power = 1 if self.schedule == "linear" else 2
        return torch.linspace(self.start ** (1 / power), self.end ** (1 / power), steps, dtype=torch.float64) ** power

    def alphas_cumprod(self, steps: int = 1000) -> Tensor:
        """prod_{s<=t} (1 - beta_s), ``[steps]`` in float64: hosts round at different places after it."""
        return torch.cumprod(1 - self.values(steps), dim=0)


@dataclass(frozen=True)
class Family:
    """What is known of a family and not written in its files.

    ``title``: what its authors call it.
    ``resnet_norm_over_frames``: the UNet's ResBlock norms and its final norm take one statistic over all frames
    of a sample. ``motion_norm_over_frames``: the same for the motion module's own input norm. All others are
    per frame. ``frames`` is the clip length the layers were trained on, ``adapter`` says that it was beside a
    domain adapter.
    """

    name: str
    title: str
    base: Literal["sd15", "sdxl"]
    betas: Betas
    frames: int = 16
    positions: int | None = None
    resnet_norm_over_frames: bool = False
    motion_norm_over_frames: bool = False
    adapter: bool = False

    def schedule(self, name: str = "auto") -> Betas:
        """The noise schedule to sample with: one of `SCHEDULES`, or for "auto" the family's own."""
        return self.betas if name == "auto" else SCHEDULES[name]


SCHEDULES: dict[str, Betas] = {
    "linear": Betas("linear", 0.00085, 0.012),
    "scaled_linear": Betas("scaled_linear", 0.00085, 0.012),
    "sdxl": Betas("scaled_linear", 0.00085, 0.020),
}
"""The noise schedules in use: AnimateDiff's on SD1.5, Stable Diffusion's own, AnimateDiff's on SDXL."""
STABLE_DIFFUSION = SCHEDULES["scaled_linear"]
"""The image models' own schedule, for frames without a motion module."""

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("v1", "AnimateDiff v1", "sd15", SCHEDULES["linear"], resnet_norm_over_frames=True),
        Family("v2", "AnimateDiff v2", "sd15", SCHEDULES["linear"], positions=32),
        Family("v3", "AnimateDiff v3", "sd15", SCHEDULES["linear"], positions=32, adapter=True),
        Family("animatelcm", "AnimateLCM", "sd15", SCHEDULES["linear"]),
        Family("sdxl", "AnimateDiff SDXL", "sdxl", SCHEDULES["sdxl"], motion_norm_over_frames=True),
        Family("hotshot", "Hotshot-XL", "sdxl", SCHEDULES["scaled_linear"], frames=8, resnet_norm_over_frames=True),
    )
}


@dataclass(frozen=True)
class Slot:
    """One temporal layer: its place (``down_blocks.0.motion_modules.1``) and its shape.

    ``positions`` is the length of the position table in the file, None where the file has none and a sinusoid
    of ``BUILT_POSITIONS`` is built.
    """

    name: str
    channels: int
    positions: int | None = 32
    attentions: int = 2
    heads: int = 8

    def __post_init__(self) -> None:
        if self.channels % NORM_GROUPS or self.channels % self.heads:
            raise MotionError(
                f"{self.name} has {self.channels} channels, which {NORM_GROUPS} norm groups and {self.heads} heads "
                "do not divide: the file is damaged or is no motion module."
            )


@dataclass(frozen=True)
class Architecture:
    """A family and the slots of one model."""

    family: Family
    slots: tuple[Slot, ...]

    @classmethod
    def of_unet(
        cls,
        family: str,
        widths: Sequence[int],
        layers: int = 2,
        positions: int | None = 32,
        mid: bool = False,
    ) -> Architecture:
        """The layout of the published modules for a UNet with ``layers`` ResBlocks on each level of ``widths``."""
        places = list(_places(widths, layers))
        if mid:
            places.append(("mid_block.motion_modules.0", widths[-1]))
        return cls(FAMILIES[family], tuple(Slot(name, channels, positions) for name, channels in places))

    @property
    def max_frames(self) -> int:
        """The longest clip that the shortest position table reaches."""
        return min((slot.positions or BUILT_POSITIONS for slot in self.slots), default=0)

    @property
    def window(self) -> int:
        """Frames of a window of a longer clip: as many as the layers were trained on."""
        published = self.family.positions
        is_longer = published is not None and self.max_frames > published
        return self.max_frames if is_longer else min(self.family.frames, self.max_frames)

    def check_frames(self, frames: int) -> None:
        """Raise MotionError unless the position tables reach over ``frames`` frames that move together."""
        if not 1 <= frames <= self.max_frames:
            raise MotionError(
                f"{frames} frames do not fit this motion module: its position table allows 1 to {self.max_frames} "
                "that move together. Give fewer, or a context length for windows."
            )

    def frames_to_draw(self, frames: int) -> int:
        """Frames to draw for a clip of ``frames``: shorter clips than the layers were trained on come out as noise, so
        they are drawn in full and cut."""
        return max(frames, min(self.family.frames, self.max_frames))


def _places(widths: Sequence[int], layers: int) -> Iterator[tuple[str, int]]:
    for level, channels in enumerate(widths):
        yield from ((f"down_blocks.{level}.motion_modules.{layer}", channels) for layer in range(layers))
    for level, channels in enumerate(reversed(widths)):
        yield from ((f"up_blocks.{level}.motion_modules.{layer}", channels) for layer in range(layers + 1))
