"""Where key images stand: spreads, numbers, and windows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motion.errors import MotionError
from sparsectrl.key_frames import SPREADS, parse, places, sources, spread

CLIPS = st.integers(1, 200).flatmap(lambda frames: st.tuples(st.just(frames), st.integers(1, frames)))


@given(CLIPS, st.sampled_from(SPREADS))
def test_a_spread_names_each_frame_once_in_order(clip: tuple[int, int], way: str) -> None:
    frames, images = clip
    found = spread(way, images, frames)
    assert len(found) == images
    assert found == sorted(set(found))
    assert found[0] >= 0 and found[-1] < frames


@given(CLIPS)
def test_spreads_leave_free_what_their_names_say(clip: tuple[int, int]) -> None:
    frames, images = clip
    assert spread("uniform", images, frames)[0] == spread("start", images, frames)[0] == 0
    assert spread("end", images, frames)[-1] == frames - 1
    if images > 1:
        assert spread("uniform", images, frames)[-1] == frames - 1
    if frames - images >= 3:
        center = spread("center", images, frames)
        assert center[0] > 0 and center[-1] < frames - 1


@given(CLIPS)
def test_spreads_are_the_points_of_the_published_formulas(clip: tuple[int, int]) -> None:
    """Advanced-ControlNet's ``linspace(0, F - 1, points)`` without its ends; exact where that rounds."""
    frames, images = clip
    cuts = {"uniform": (0, 0), "start": (0, 1), "end": (1, 0)} | ({"center": (1, 1)} if frames - images >= 3 else {})
    for way, (before, after) in cuts.items():
        points = np.linspace(0, frames - 1, before + images + after)[before : before + images]
        if images < frames:
            assert spread(way, images, frames) == list(np.floor(points + 1e-9).astype(int))


@given(CLIPS, st.data())
def test_numbers_and_their_negatives_are_the_same_frames(clip: tuple[int, int], data: st.DataObject) -> None:
    frames, images = clip
    wanted = data.draw(st.permutations(range(frames)))[:images]
    negative = data.draw(st.lists(st.booleans(), min_size=images, max_size=images))
    numbers = [place - frames if minus else place for place, minus in zip(wanted, negative, strict=True)]
    assert parse(", ".join(map(str, numbers)), frames, images) == places(numbers, frames) == wanted


@pytest.mark.parametrize(
    ("text", "images", "words"),
    [
        ("0,8,8", 3, "key frame 8 stands twice"),
        ("0,15,-1", 3, "key frame 15 and -1 are the same in a clip of 16 frames"),
        ("0,16", 2, "key frame 16 is out of range: the clip has frames 0 to 15"),
        ("-17", 1, "key frame -17 is out of range"),
        ("0,,8", 3, "'' is no frame"),
        ("first", 1, "'first' is no frame: give numbers such as 0,8,-1, or one of uniform, start, center, end"),
        ("1.5", 1, "'1.5' is no frame"),
        ("0,8", 3, "0,8 names 2 frames for 3 images"),
        ("uniform", 17, "17 key images do not fit 16 frames"),
    ],
)
def test_what_is_refused_says_which(text: str, images: int, words: str) -> None:
    with pytest.raises(MotionError) as caught:
        parse(text, 16, images)
    assert words in str(caught.value)


@given(st.sets(st.integers(0, 63)), st.integers(0, 48), st.booleans())
def test_a_window_gets_its_own_keys_or_the_nearest(keys: set[int], start: int, nearest: bool) -> None:
    window = range(start, start + 16)
    taken = sources(keys, window, nearest)
    moved = [frame for frame, source in zip(window, taken, strict=True) if source != frame]
    assert all(frame in (window[0], window[-1]) for frame in moved)
    if not nearest or not keys or keys & set(window):
        assert not moved
    else:
        distances = {frame: min(abs(key - frame) for key in keys) for frame in (window[0], window[-1])}
        assert moved == [frame for frame, distance in distances.items() if distance == min(distances.values())]
        assert all(
            abs(taken[frame - start] - frame) == distances[frame] and taken[frame - start] in keys for frame in moved
        )
