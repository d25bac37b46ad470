"""The field of key frames: every spelling of a list of images at their frames, and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motion.errors import MotionError
from motion.fields.table import is_plain
from motion.settings.key_frames import DIGITS, STRONGEST, KeyFrame
from motion.settings.tab import TAB_FIELDS, Tab

ROW = TAB_FIELDS["key_frames"]
KEPT = "0123456789abcdef"
FRAMES = st.one_of(
    st.integers(-999, 999).map(str),
    st.lists(st.integers(-99, 99), min_size=1, max_size=4).map(lambda numbers: ",".join(map(str, numbers))),
    st.sampled_from(["uniform", "start", "center", "end"]),
)
IMAGES = st.text("0123456789abcdef", min_size=DIGITS, max_size=DIGITS)
STRENGTHS = st.one_of(
    st.floats(0, STRONGEST, exclude_min=True, allow_nan=False),
    st.sampled_from(["@0: 1, @0.5: 0", "smooth @0: 0.2, @1: 3 * 2", "audio(a b.wav, bass) * @0: 1, @1: 0"]),
)
KEYS = st.builds(KeyFrame, FRAMES, IMAGES, st.text().filter(is_plain), STRENGTHS)


@given(st.lists(KEYS, max_size=4))
def test_infotext_and_the_page_bring_the_same_keys_back(keys: list[KeyFrame]) -> None:
    value = ROW.check(keys)
    assert ROW.parse(ROW.write(value)) == value
    assert ROW.check(ROW.format(value)) == value
    assert ROW.check(json.loads(json.dumps(value))) == value, "as a preset keeps them"


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert isinstance(ROW.parse(text), tuple)
    except MotionError as error:
        assert "key frames is" in str(error)


def test_what_the_api_takes() -> None:
    given: list[Any] = [
        {"frame": 0, "image": "aGVsbG8=", "encoder": "rgb", "strength": 1},
        {"frame": "-1", "image": "a.png"},
        ("uniform", KEPT, "rgb", 0.5),
    ]
    assert Tab(key_frames=given).key_frames == (  # type: ignore[arg-type]
        KeyFrame("0", "aGVsbG8=", "rgb", 1.0),
        KeyFrame("-1", "a.png", "", 1.0),
        KeyFrame("uniform", KEPT, "rgb", 0.5),
    )
    assert Tab(key_frames="").key_frames == ()  # type: ignore[arg-type]


def test_infotext_is_compact_and_leaves_out_what_is_not_kept() -> None:
    keys = (KeyFrame("0", KEPT, "v3 rgb", 0.5), KeyFrame("3", "aGVsbG8="), KeyFrame("-1", KEPT))
    assert ROW.write(keys) == f"0={KEPT}=0.5 v3 rgb; -1={KEPT}"


@pytest.mark.parametrize(
    "bad",
    [
        {"frame": 0},
        {"frame": 0, "image": ""},
        {"frame": 0, "image": KEPT, "weight": 1},
        {"frame": 1.5, "image": KEPT},
        {"frame": True, "image": KEPT},
        {"frame": "first!", "image": KEPT},
        {"frame": 0, "image": 7},
        {"frame": 0, "image": KEPT, "strength": 0},
        {"frame": 0, "image": KEPT, "strength": 11},
        {"frame": 0, "image": KEPT, "strength": float("nan")},
        {"frame": 0, "image": KEPT, "encoder": None},
        7,
        [],
    ],
)
def test_what_is_no_key_frame_is_refused(bad: Any) -> None:
    with pytest.raises(MotionError, match=r"key frames is .*give a list of"):
        Tab(key_frames=({"frame": 0, "image": KEPT}, bad))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bad", [7, {"frame": 0, "image": KEPT}, None, "[", "[7]", "0=abc", f"0={KEPT}=x", f'0={KEPT} a b"']
)
def test_what_is_no_list_is_refused(bad: Any) -> None:
    with pytest.raises(MotionError, match="key frames is"):
        Tab(key_frames=bad)


def test_key_frames_do_not_end_before_they_begin() -> None:
    with pytest.raises(MotionError, match=r"key start is 0\.5: give at most key end, 0\.25"):
        Tab(key_start=0.5, key_end=0.25)
