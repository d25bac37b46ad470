"""Masks: whatever is drawn is a set of frames of the clip, and the patterns are what they are called."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motion.errors import MotionError
from motion.fields.weighted import Weighted
from motion.training.masks import MIXTURE, PATTERNS, check, draw, parse

seeds = st.integers(0, 2**32 - 1)
lengths = st.integers(1, 40)


@given(st.sampled_from([*PATTERNS]), lengths, seeds)
def test_every_mask_is_some_frames_of_the_clip_in_order(name: str, frames: int, seed: int) -> None:
    keys = PATTERNS[name](frames, np.random.default_rng(seed))
    assert keys and keys == sorted(set(keys))
    assert keys[0] >= 0 and keys[-1] < frames
    if name != "random":
        assert keys[0] == 0


@given(lengths, seeds)
def test_patterns_are_what_they_are_called(frames: int, seed: int) -> None:
    masks = {name: pattern(frames, np.random.default_rng(seed)) for name, pattern in PATTERNS.items()}
    assert masks["first"] == [0]
    assert masks["first-last"] in ([0, frames - 1], [0])
    assert len({b - a for a, b in zip(masks["every"], masks["every"][1:], strict=False)}) <= 1
    assert masks["prefix"] == list(range(len(masks["prefix"])))
    assert frames == 1 or len(masks["prefix"]) < frames


@given(seeds)
def test_a_mixture_draws_by_its_weights_alone(seed: int) -> None:
    rng, again = np.random.default_rng(seed), np.random.default_rng(seed)
    mixture = (Weighted("first", 0.0), Weighted("first-last", 2.0))
    assert draw(mixture, 8, rng) == draw(mixture, 8, again) == [0, 7]


def test_the_shares_are_the_mixtures() -> None:
    rng = np.random.default_rng(0)
    drawn = Counter(tuple(draw(parse("first:1, first-last:3"), 16, rng)) for _ in range(4000))
    assert drawn[0, 15] / 4000 == pytest.approx(0.75, abs=0.03)
    lengths = Counter(len(PATTERNS["random"](4, rng)) for _ in range(4000))
    assert all(lengths[count] / 4000 == pytest.approx(0.25, abs=0.03) for count in range(1, 5))


def test_mixtures_are_read_and_checked() -> None:
    assert parse("first:0.25, random") == (Weighted("first", 0.25), Weighted("random", 1.0))
    assert sum(weight for _, weight in check(MIXTURE)) == pytest.approx(1)
    for text, words in {"middle:1": "masks is middle", "first:0": "without any weight", "first:-1": "masks is"}.items():
        with pytest.raises(MotionError, match=words):
            parse(text)
