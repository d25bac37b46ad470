"""Flow: a known shift is found, and the middle of two frames lies between them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from motion.video.flow import flow_between, middle_frame


def scene(shift: float, size: int = 96) -> np.ndarray:
    """Soft random blobs, moved to the right by so many pixels."""
    noise = np.random.default_rng(0).random((size, size + 32, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 4)
    soft = (soft - soft.min()) / (soft.max() - soft.min()) * 255
    matrix = np.array([[1, 0, shift - 16], [0, 1, 0]], np.float32)
    return cv2.warpAffine(soft, matrix, (size, size)).round().astype(np.uint8)


@pytest.mark.parametrize("shift", [-6, -2, 3, 8])
def test_a_known_shift_is_found(shift: float) -> None:
    flow = flow_between(scene(0), scene(shift))[16:-16, 16:-16]
    assert np.abs(flow - [shift, 0]).mean() < 0.5


@pytest.mark.parametrize("shift", [-4, 6])
def test_the_middle_lies_between(shift: float) -> None:
    middle, wanted = middle_frame(scene(0), scene(shift)), scene(shift / 2)
    blend = (scene(0).astype(float) + scene(shift)) / 2
    inside = (slice(16, -16), slice(16, -16))
    assert (
        np.abs(middle[inside].astype(float) - wanted[inside]).mean() < np.abs(blend[inside] - wanted[inside]).mean() / 4
    )


def test_the_middle_of_equal_frames_is_the_frame() -> None:
    frame = scene(0)
    assert (middle_frame(frame, frame) == frame).all()


def test_small_frames_have_a_middle() -> None:
    small = np.zeros((8, 10, 3), np.uint8)
    assert middle_frame(small, small).shape == (8, 10, 3)
