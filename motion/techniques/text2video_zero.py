"""Text2Video-Zero (Khachatryan et al. 2023, arXiv:2303.13439): an image model's first frame is moved in its latents to
make the others, and from some noise on all are drawn together, each looking at the first (`motion.cross_frame`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motion.errors import MotionError
from motion.fields.table import Field, Number, setting
from motion.techniques.technique import Detour, Plan, Technique, Turn

if TYPE_CHECKING:  # settings are read before torch is
    from torch import Tensor

FRESH_SEED = 1 << 18
"""How far from the clip's seed the noise is drawn that moved frames are given again."""
GRID = 512
"""Pixels of the side of a picture, whatever its size, in which strengths are given."""
OWN_BACKGROUND = 0.4
"""Of its own background a frame keeps so much; the rest is the first frame's."""
FIRST_ORDER = ("DDIM", "Euler", "Euler a", "LCM")
"""The samplers whose step depends on nothing but the latents, so that a schedule can be run in parts."""


@dataclass(frozen=True)
class ZeroShotSettings:
    """The motion field on the latents."""

    field_x: float = setting(
        Number, 12.0, "Motion field x", "how far the picture moves in a frame: above 0 left, below 0 right",
        -128, 128, 1, 128, key="Motion field x", group="zero_shot",
        detail="in 512ths of its width; without a motion module only",
    )  # fmt: skip
    field_y: float = setting(
        Number, 12.0, "Motion field y", "how far the picture moves in a frame: above 0 up, below 0 down",
        -128, 128, 1, 128, key="Motion field y", group="zero_shot", detail="in 512ths of its height",
    )  # fmt: skip
    field_t0: int = setting(
        Number, 881, "Motion field t0", "when the first frame is moved; 1000 = noise, 1 = picture", 1, 999, 1, 999,
        key="Motion field t0", group="zero_shot",
    )  # fmt: skip
    field_t1: int = setting(
        Number, 941, "Motion field t1", "to which noise moved frames go back; farther from t0, they are freer",
        1, 999, 1, 999, key="Motion field t1", group="zero_shot",
        detail="from there on all frames are drawn together",
    )  # fmt: skip
    foreground: str = setting(
        Field, "", "Foreground", "path of a clip of masks, white where the thing is that moves",
        key="Motion foreground", group="zero_shot",
        detail="elsewhere frames take over the first one's background, moved by the field",
    )  # fmt: skip


def field_steps(times: Sequence[float], t0: int, t1: int) -> Detour:
    """Which of a run's steps begin nearest to t1 and t0, the first never, and in this order.

    ``times``: the time step at which each step of the run begins, from noise to picture. Raises MotionError for a run
    that is too short.
    """
    if len(times) < 3:
        raise MotionError(f"{len(times)} steps leave no room for a motion field: give at least 4")

    def nearest(time: float, first: int, last: int) -> int:
        return min(range(first, last), key=lambda step: (abs(times[step] - time), -step))

    back = nearest(t1, 1, len(times) - 1)
    return Detour(back, nearest(t0, back + 1, len(times)))


def move(latents: Tensor, numbers: Sequence[int], strength: tuple[float, float]) -> Tensor:
    """Each of the ``latents [frames, C, h, w]`` moved as the frame with that number is (equation 6).

    Strengths along x and y are in 512ths of the picture; above 0 the picture moves left and up. Samples are taken from
    the nearest cell, around the edges by reflection.
    """
    moved, (height, width) = latents.clone(), latents.shape[-2:]
    for place, number in enumerate(numbers):
        rows, columns = _sources(height, number * strength[1]), _sources(width, number * strength[0])
        moved[place] = latents[place][:, rows][..., columns]
    return moved


def _sources(length: int, shift: float) -> list[int]:
    """From which cell each of an axis' is sampled. The field's grid lies half a pixel off, as in the authors' code."""
    places = (cell + (shift - 0.5) * length / GRID for cell in range(length))
    around = ((place + 0.5) % (2 * length) for place in places)  # reflected at -0.5 and length - 0.5
    inside = (min(place, 2 * length - place) - 0.5 for place in around)
    return [round(min(max(place, 0), length - 1)) for place in inside]


def noise_again(latents: Tensor, noise: Tensor, sigma0: float, sigma1: float, kept: float | None = None) -> Tensor:
    """Latents at the noise level ``sigma0`` brought to ``sigma1`` (equation 7), in k-diffusion's units.

    ``kept``: the part of their variance, of latents of unit variance, that stays; left out, it is what the levels say.
    The authors take the product of the alphas from t0 up to t1 but for the last, which is one time step off.
    """
    grown = 1 + sigma1**2
    kept = (1 + sigma0**2) / grown if kept is None else kept
    return math.sqrt(kept * grown / (1 + sigma0**2)) * latents + math.sqrt((1 - kept) * grown) * noise


def smooth_background(
    latents: Tensor, masks: Tensor, strength: tuple[float, float], own: float = OWN_BACKGROUND
) -> Tensor:
    """The ``latents [frames, C, h, w]``, outside their foreground mixed with the first one's background as the field
    moves it (equation 9 of the paper). ``masks [frames, 1, h, w]``: 1 where the foreground is."""
    numbers, first = range(len(latents)), len(latents) * [0]
    behind = move((latents[:1] * (1 - masks[:1]))[first], numbers, strength)
    background = (1 - masks) * (1 - move(masks[first], numbers, strength))
    return latents + background * (1 - own) * (behind - latents)


class Text2VideoZero(Technique):
    """The first frame is drawn to t0 and moved, what comes of it is noised again to t1, from where all go on."""

    label = "Text2Video-Zero"
    paper = "arXiv:2303.13439"

    def __init__(self, settings: Any) -> None:
        self.strength = settings.field_x, settings.field_y
        self.t0, self.t1 = settings.field_t0, settings.field_t1
        self.foreground = settings.foreground

    @staticmethod
    def wanted(settings: Any) -> bool:
        return bool(settings.zero_shot and (settings.field_x, settings.field_y) != (0, 0))

    def check(self, plan: Plan) -> None:
        if self.t0 >= self.t1:
            raise MotionError(f"field t0 is {self.t0}: give less than field t1, {self.t1}")
        if plan.frames == 1:
            raise MotionError("frames is 1: a motion field moves the first frame to make the others, give at least 2")
        if not plan.begins_with_noise:
            raise MotionError("a motion field begins with noise: set Motion field x and y to 0 for an initial image")
        if plan.sampler not in FIRST_ORDER:
            raise MotionError(f"the sampler is {plan.sampler}: for a motion field choose {', '.join(FIRST_ORDER)}")
        if self.foreground:
            self._masks(plan.frames, (1, 1))
        for axis, strength in zip("xy", self.strength, strict=True):
            if abs(strength) * (plan.frames - 1) >= GRID:
                raise MotionError(
                    f"field {axis} is {strength:g}: over {plan.frames} frames that is farther than the picture; give "
                    f"at most {(GRID - 1) // (plan.frames - 1)}, or fewer frames"
                )

    def detour(self, times: Sequence[float]) -> Detour:
        return field_steps(times, self.t0, self.t1)

    def turn(self, turn: Turn, kept: float | None = None) -> Tensor:
        """The first frame neither moved nor noised, and the others made of it; ``kept`` as for `noise_again`."""
        frames = turn.draw(turn.seed + FRESH_SEED)
        moved = move(turn.before.repeat(turn.frames - 1, 1, 1, 1), range(1, turn.frames), self.strength)
        frames[1:] = noise_again(moved, frames[1:], turn.sigmas[1], turn.sigmas[0], kept)
        frames[:1] = turn.back
        if not self.foreground:
            return frames
        return smooth_background(frames, self._masks(turn.frames, frames.shape[-2:]).to(frames), self.strength)

    def _masks(self, frames: int, size: Sequence[int]) -> Tensor:
        """The foreground in latents of that height and width, ``[frames, 1, h, w]``, and two cells around it.

        Raises MotionError for what is no clip, and for one of another length; a still is the mask of all frames.
        """
        import torch  # settings are read before torch is

        from motion.video.masks import read_masks

        shown = torch.from_numpy(read_masks(Path(self.foreground), "foreground", frames))
        masks = shown[:, None].expand(frames, -1, -1, -1)
        cells = torch.nn.functional.interpolate(masks, tuple(size))
        return torch.nn.functional.max_pool2d(cells, 5, 1, 2)
