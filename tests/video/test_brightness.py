"""Jumps in brightness, measured against the neighbours."""

from __future__ import annotations

import numpy as np
import pytest

from motion.video.brightness import brightness, jumps


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
