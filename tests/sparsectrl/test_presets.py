"""Uses of key frames: where their images stand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motion.errors import MotionError
from sparsectrl.key_frames import places
from sparsectrl.presets import PICTURES, PRESETS, SKETCHES


@given(st.sampled_from(list(PRESETS)), st.integers(1, 64), st.integers(1, 64))
def test_the_images_stand_in_order_at_frames_of_the_clip_or_are_too_many(name: str, images: int, frames: int) -> None:
    try:
        found = PRESETS[name].places(images, frames)
    except MotionError as error:
        assert f"there are {images}" in str(error)
        return
    numbers = places([int(place) for place in found], frames)
    assert len(numbers) == images and numbers == sorted(numbers) and numbers[0] == 0


@pytest.mark.parametrize(
    ("name", "images", "found"),
    [
        ("image", 1, ["0"]),
        ("pair", 2, ["0", "-1"]),
        ("storyboard", 4, ["0", "5", "10", "-1"]),
        ("prediction", 3, ["0", "1", "2"]),
        ("interpolation", 4, ["0", "4", "8", "12"]),
        ("sketch", 1, ["0"]),
    ],
)
def test_the_places_in_a_clip_of_sixteen(name: str, images: int, found: list[str]) -> None:
    assert PRESETS[name].places(images, 16) == found


@pytest.mark.parametrize(
    ("name", "images", "takes"),
    [("image", 2, "1 images"), ("pair", 1, "2 images"), ("storyboard", 17, "1 to 16 images"), ("sketch", 0, "1 to 16")],
)
def test_too_few_and_too_many_images_are_refused(name: str, images: int, takes: str) -> None:
    with pytest.raises(MotionError, match=f"takes {takes}.* there are {images}"):
        PRESETS[name].places(images, 16)


def test_only_the_sketch_is_shown_by_an_encoder_of_sketches() -> None:
    assert {name for name, use in PRESETS.items() if use.kind != PICTURES} == {"sketch"}
    assert PRESETS["sketch"].kind == SKETCHES
