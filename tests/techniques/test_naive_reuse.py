"""NaiveReuse: what later windows take over of the first one, and when they do not."""

from __future__ import annotations

import torch
from torch import Tensor

from motion.settings.tab import Tab
from motion.techniques.naive_reuse import NaiveReuse
from motion.techniques.technique import Moment, Step
from tests.support.small import far

FRAMES, WINDOW, STEPS = 7, 3, 20
LATENTS = torch.randn(2 * FRAMES, 4, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def edited(share: float, step: int = 1, window: int = WINDOW) -> Tensor:
    """Two clips, after a step."""
    technique = NaiveReuse(Tab(naive_reuse=share, naive_reuse_end=0.1))
    moment = Moment(FRAMES, FRAMES, step, STEPS, window=window)
    told = Step(moment, LATENTS, torch.ones(2 * FRAMES, 1, 1, 1), {"cond": LATENTS}, lambda _: LATENTS, {})
    return technique.edit(told, LATENTS)


def test_each_clip_repeats_its_first_window_by_the_share() -> None:
    before, half, all_of_it = (x.unflatten(0, (2, FRAMES)) for x in (LATENTS, edited(0.5), edited(1.0)))
    for frame in range(FRAMES):
        first = before[:, frame % WINDOW]
        assert far(all_of_it[:, frame], first) <= 1e-12
        assert far(half[:, frame], (first + before[:, frame]) / 2) <= 1e-12
    assert half[:, :WINDOW].equal(before[:, :WINDOW])


def test_later_steps_and_clips_of_one_window_are_bit_equal() -> None:
    assert edited(0.9, step=2).equal(LATENTS)
    assert edited(0.9, window=0).equal(LATENTS)


def test_it_is_wanted_only_where_it_acts() -> None:
    assert not NaiveReuse.wanted(Tab())
    assert not NaiveReuse.wanted(Tab(naive_reuse=0.5, naive_reuse_end=0))
