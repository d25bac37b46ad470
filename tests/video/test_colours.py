"""Colours of frames: told by six numbers, taken from the neighbours, and steadied over a clip."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motion.video.brightness import brightness
from motion.video.colours import (
    LOOKED_AT,
    MOST_GAIN,
    Colours,
    colours,
    match_colours,
    spread_evenly,
    steady_colours,
    usual,
)


def clip(*levels: float) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [(level + draw.uniform(-20, 20, (8, 8, 3))).round().astype(np.uint8) for level in levels]


def test_colours_are_mean_and_spread_of_each_channel_and_usual_ones_at_least_one_frame_has() -> None:
    one = colours(np.array([[[10, 0, 200], [30, 0, 100]]], np.uint8))
    assert one.mean.tolist() == [20, 0, 150] and one.spread.tolist() == [10, 0, 50]
    frames = clip(60, 200, 100)
    assert (usual(frames).mean == colours(frames[2]).mean).all()


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=200, unique=True).map(sorted))
def test_frames_that_tell_a_clips_colours_lie_evenly_in_it(places: list[int]) -> None:
    found = spread_evenly(places)
    assert len(found) == len(set(found)) == min(LOOKED_AT, len(places)) and set(found) <= set(places)
    at = [places.index(place) for place in found]
    gaps = np.diff(at)
    assert len(at) == 1 or gaps.max() - gaps.min() <= 1
    assert abs(at[0] - (len(places) - 1 - at[-1])) <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_steadied_frames_have_the_clips_colours_and_half_way_there_half_of_the_distance(dtype: type) -> None:
    frames = [frame.astype(dtype) for frame in clip(90, 120, 100, 104, 108)]
    close = 0.5 if dtype is np.uint8 else 1e-3  # whole numbers may all be rounded the same way
    of_all = usual(frames)
    for weight, left in ((1.0, 0.0), (0.5, 0.5)):
        result = list(steady_colours(iter(frames), of_all, weight))
        assert {frame.dtype for frame in result} == {np.dtype(dtype)}
        for frame, before in zip(map(colours, result), map(colours, frames), strict=True):
            for now, was, all_ in zip(frame, before, of_all, strict=True):
                assert now - all_ == pytest.approx(left * (was - all_), abs=close)


def test_frames_of_the_clips_colours_and_weight_0_change_nothing() -> None:
    frames = clip(90, 120, 100)
    assert all(
        (one == other).all() for one, other in zip(frames, steady_colours(frames, usual(frames), 0.0), strict=True)
    )
    same = [frames[0], frames[0][::-1], frames[0][:, ::-1]]
    assert all((one == other).all() for one, other in zip(same, steady_colours(same, usual(same), 1.0), strict=True))


def test_a_frame_of_almost_one_colour_is_not_made_into_noise() -> None:
    dull = np.full((8, 8, 3), 100.0)
    dull[0, 0] += 1
    (result,) = steady_colours([dull], Colours(np.full(3, 100.0), np.full(3, 60.0)), 1.0)
    assert np.ptp(result) == pytest.approx(MOST_GAIN)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_matched_frames_have_their_neighbours_colours_and_the_others_are_as_they_were(dtype: type) -> None:
    frames = [frame.astype(dtype) for frame in clip(140, 100, 104, 60, 108)]
    result = list(match_colours(iter(frames), {0, 3}))
    assert all(result[place] is frames[place] for place in (1, 2, 4))
    assert result[0].dtype == dtype
    assert brightness(result[0]) == pytest.approx(brightness(frames[1]), abs=0.5)
    assert brightness(result[3]) == pytest.approx((brightness(frames[2]) + brightness(frames[4])) / 2, abs=0.5)
    assert result[3].std() == pytest.approx((frames[2].std() + frames[4].std()) / 2, abs=0.5)


def test_what_has_no_neighbour_and_what_has_one_colour_stays_finite() -> None:
    (alone,) = clip(90)
    assert next(match_colours([alone], {0})) is alone
    flat, other = np.full((4, 4, 3), 10, np.uint8), np.full((4, 4, 3), 50, np.uint8)
    assert (next(match_colours([flat, other], {0})) == 50).all()
    assert list(match_colours([], {0})) == []
