"""Boxes that follow masks: one size, in the frame, around all that is seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motion.video.follow import Box, follow

WIDTH, HEIGHT = 96, 64


def mask(box: Box | None) -> np.ndarray:
    frame = np.zeros((HEIGHT, WIDTH), np.uint8)
    if box is not None:
        box.of(frame)[:] = 255
    return frame


BOXES = st.builds(
    lambda left, top, width, height: Box(left, top, min(width, WIDTH - left), min(height, HEIGHT - top)),
    st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1), st.integers(1, WIDTH), st.integers(1, HEIGHT),
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(st.lists(st.none() | BOXES, min_size=1, max_size=12), st.integers(0, 40), st.floats(0.5, 2))
def test_boxes_are_of_one_size_in_the_frame_and_leave_out_nothing(
    shown: list[Box | None], padding: int, shape: float
) -> None:
    boxes = follow(map(mask, shown), padding, shape)
    assert len(boxes) == (len(shown) if any(shown) else 0)
    assert len({(box.width, box.height) for box in boxes}) <= 1
    for box, seen in zip(boxes, shown, strict=False):
        assert box.left >= 0 and box.top >= 0 and box.left + box.width <= WIDTH and box.top + box.height <= HEIGHT
        assert seen is None or box.of(mask(seen)).sum() == mask(seen).sum()


def test_boxes_have_the_shape_and_padding_asked_for() -> None:
    [box] = follow([mask(Box(40, 20, 10, 20))], 10, 1.0)
    assert (box.width, box.height) == (40, 40)
    assert (box.left, box.top) == (25, 10)


def test_a_shape_that_is_lost_is_waited_for_on_its_way() -> None:
    boxes = follow([mask(Box(10, 20, 8, 8)), *[mask(None)] * 7, mask(Box(74, 20, 8, 8))], 2, 1.0)
    lefts = [box.left for box in boxes]
    assert lefts == sorted(lefts)
    assert lefts[4] == pytest.approx((lefts[0] + lefts[-1]) / 2, abs=2)


def test_jitter_is_not_followed() -> None:
    shaken = [mask(Box(40 + 2 * (time % 2), 20, 10, 10)) for time in range(16)]
    lefts = [box.left for box in follow(shaken, 10, 1.0)]
    assert max(lefts[4:-4]) - min(lefts[4:-4]) <= 1
