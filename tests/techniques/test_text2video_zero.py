"""Text2Video-Zero: the authors' field, noise and frames, and the steps at which they act."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import motion
from motion.errors import MotionError
from motion.models.motion.architecture import SCHEDULES
from motion.settings.settings import Clip
from motion.techniques.technique import Plan, Turn
from motion.techniques.text2video_zero import Text2VideoZero, field_steps, move, smooth_background
from motion.video.write import write
from tests.support.small import far, run

OracleOf = Callable[[str], dict[str, Tensor]]


@pytest.mark.parametrize("case", range(4))
def test_the_field_is_the_authors_to_the_bit(case: int, oracle_of: OracleOf) -> None:
    oracle = oracle_of("techniques/t2vz_warp")
    given, wanted = (oracle[f"case{case}_{name}"][0].transpose(0, 1) for name in ("in", "out"))
    numbers = oracle[f"case{case}_frame_ids"].tolist()
    x, y = oracle[f"case{case}_strength"].tolist()
    assert move(given, numbers, (x, y)).equal(wanted)


def test_a_strength_above_zero_moves_the_picture_left_and_up() -> None:
    dot = torch.zeros(1, 1, 8, 8)
    dot[..., 4, 5] = 1
    assert move(dot, [1], (128, 0)).nonzero().tolist() == [[0, 0, 4, 3]]
    assert move(dot, [2], (0, 64)).nonzero().tolist() == [[0, 0, 2, 5]]


def test_the_whole_procedure_is_the_authors(unet: nn.Module, oracle_of: OracleOf) -> None:
    """From their latents at t1 and t0 through the first of their steps of all frames, by DDIM."""
    io, alphas = oracle_of("techniques/t2vz_pipeline"), SCHEDULES["scaled_linear"].alphas_cumprod()
    times = list(range(981, 0, -20))
    at1, at0 = field_steps(times, 881, 941)
    assert (times[at1], times[at0]) == (941, 881)
    sigma1, sigma0 = ((1 - alphas[t]).sqrt().item() / alphas[t].sqrt().item() for t in (941, 881))
    first, later = (io[f"x_{name}_first"][:, :, 0] / alphas[t].sqrt() for name, t in (("t1", 941), ("t0", 881)))
    kept = (alphas[940] / alphas[880]).item()
    noise = torch.cat([first, io["noise"][0].transpose(0, 1)])
    turn = Turn(first, later, (sigma1, sigma0), 4, 0, lambda seed: noise.clone())
    x = Text2VideoZero(Clip(zero_shot=True)).turn(turn, kept) * alphas[941].sqrt()
    assert far(x, io["x_t1_all"][0].transpose(0, 1)) <= 1e-5
    text, x = io["c"].repeat_interleave(4, 0), x.float()
    with torch.no_grad(), motion.cross_frame.attach(unet, 4, "first"):
        for t in times[at1 : at1 + 8]:
            negative, positive = run(unet, (x.repeat(2, 1, 1, 1), torch.full((8,), t), text)).chunk(2)
            noise = negative + 7.5 * (positive - negative)
            a, b = alphas[t].float(), alphas[max(t - 20, 0)].float()
            x = b.sqrt() * (x - (1 - a).sqrt() * noise) / a.sqrt() + (1 - b).sqrt() * noise
    assert far(x, io["after_8_steps"]) <= 1e-5


def test_a_foreground_of_another_length_is_refused(tmp_path: Path) -> None:
    masks = torch.arange(3, dtype=torch.uint8)[:, None, None, None].expand(3, 8, 8, 3).numpy()
    write(masks, tmp_path / "masks.png", 8)
    technique = Text2VideoZero(Clip(zero_shot=True, foreground=str(tmp_path / "masks.png")))
    with pytest.raises(MotionError, match=r"masks\.png has 3 frames and the clip 4"):
        technique.check(Plan(8, frames=4, sampler="DDIM"))


def test_the_smoothed_background_is_the_authors(tmp_path: Path, oracle_of: OracleOf) -> None:
    io = oracle_of("techniques/t2vz_smooth_bg")
    masks = (255 * io["mask_image"]).byte()[..., None].expand(-1, -1, -1, 3).numpy()
    write(masks, tmp_path / "masks.png", 8)
    technique = Text2VideoZero(Clip(zero_shot=True, foreground=str(tmp_path / "masks.png")))
    x = io["x_t1_all"][0].transpose(0, 1)
    found = technique.turn(Turn(x[:1], x[:1], (2.0, 1.0), 4, 0, lambda seed: torch.zeros_like(x)))
    smoothed = smooth_background(x, io["mask_latent"].transpose(0, 1), technique.strength)
    assert far(smoothed, io["x_t1_smoothed"][0].transpose(0, 1)) <= 1e-5
    moved = Text2VideoZero(Clip(zero_shot=True)).turn(
        Turn(x[:1], x[:1], (2.0, 1.0), 4, 0, lambda seed: torch.zeros_like(x))
    )
    assert far(found, smooth_background(moved, io["mask_latent"].transpose(0, 1), technique.strength)) <= 1e-6


@pytest.mark.parametrize(
    ("steps", "t0", "t1", "wanted"),
    [
        (50, 881, 941, (2, 5)),
        (25, 881, 941, (1, 2)),
        (4, 881, 941, (1, 2)),
        (25, 401, 441, (13, 14)),
        (25, 1, 2, (23, 24)),
    ],
)
def test_the_times_snap_to_the_run(steps: int, t0: int, t1: int, wanted: tuple[int, int]) -> None:
    times = [1 + 1000 // steps * step for step in reversed(range(steps))]
    assert field_steps(times, t0, t1) == wanted


@pytest.mark.parametrize(
    ("settings", "plan", "told"),
    [
        ({"field_t0": 941}, {}, "field t0 is 941: give less than field t1, 941"),
        ({"field_y": -64}, {"frames": 9}, "over 9 frames that is farther than the picture; give at most 63"),
        ({}, {"frames": 1}, "frames is 1"),
        ({}, {"sampler": "DPM++ 2M"}, "choose DDIM, Euler, Euler a, LCM"),
        ({}, {"begins_with_noise": False}, "begins with noise"),
    ],
)
def test_what_cannot_be_is_one_sentence(settings: dict[str, Any], plan: dict[str, Any], told: str) -> None:
    fitting = Plan(7.5, frames=8, sampler="Euler")
    technique = Text2VideoZero(Clip(zero_shot=True, **settings))
    with pytest.raises(MotionError, match=told):
        technique.check(fitting._replace(**plan))
    Text2VideoZero(Clip(zero_shot=True, field_y=-64)).check(fitting)
    with pytest.raises(MotionError, match="2 steps leave no room"):
        field_steps([900, 500], 881, 941)
