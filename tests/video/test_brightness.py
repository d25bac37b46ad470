"""Jumps in brightness: measured against the neighbours, and taken away."""

from __future__ import annotations

import numpy as np
import pytest

from motion.video.brightness import brightness, jumps, matched


def clip(*levels: float) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [(level + draw.uniform(-20, 20, (8, 8, 3))).round().astype(np.uint8) for level in levels]


def test_brightness_is_that_of_the_picture_in_grey() -> None:
    assert brightness(np.full((2, 2, 3), 100, np.uint8)) == pytest.approx(100)
    assert brightness(np.array([[[255, 0, 0]]], np.uint8)) == pytest.approx(0.299 * 255)


def test_a_key_frame_is_compared_with_the_frames_beside_it() -> None:
    found = jumps(dict(enumerate([60, 50, 52, 40, 54, 55])), {0, 3})
    assert found.by_frame == {0: 10, 3: -13}
    assert found.usual == 1.5
    assert str(found) == "0=+10.0 3=-13.0 (usual 1.5)"


def test_neighbours_that_are_keys_do_not_count() -> None:
    assert jumps(dict(enumerate([60, 70, 50])), {0, 1}).by_frame == {1: 20}
    assert jumps({0: 60}, {0}).by_frame == {}
    assert jumps({}, set()).usual == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_matched_frames_have_their_neighbours_colours_and_the_others_are_as_they_were(dtype: type) -> None:
    frames = [frame.astype(dtype) for frame in clip(140, 100, 104, 60, 108)]
    result = list(matched(iter(frames), {0, 3}))
    assert all(result[place] is frames[place] for place in (1, 2, 4))
    assert result[0].dtype == dtype
    assert brightness(result[0]) == pytest.approx(brightness(frames[1]), abs=0.5)
    assert brightness(result[3]) == pytest.approx((brightness(frames[2]) + brightness(frames[4])) / 2, abs=0.5)
    assert result[3].std() == pytest.approx((frames[2].std() + frames[4].std()) / 2, abs=0.5)


def test_what_has_no_neighbour_and_what_has_one_colour_stays_finite() -> None:
    (alone,) = clip(90)
    assert next(matched([alone], {0})) is alone
    flat, other = np.full((4, 4, 3), 10, np.uint8), np.full((4, 4, 3), 50, np.uint8)
    assert (next(matched([flat, other], {0})) == 50).all()
    assert list(matched([], {0})) == []
