"""Curves: what their text means, that it reads back, and that what is wrong with it is said with its place."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motion.errors import MotionError
from motion.extension.page.curve_picture import drawing
from motion.fields.curve import Curve, Key, Loudness, Track
from motion.fields.curve_text import BANDS, read_curve
from motion.settings.settings import FIELDS, Clip
from motion.settings.tab import Tab

NUMBERS = st.floats(-1e6, 1e6)
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


@st.composite
def tracks(draw: st.DrawFn) -> Track:
    """Keys in order, over frames or over steps."""
    over_steps = draw(st.booleans())
    places = st.integers(0, 999).map(lambda n: n / 1000 if over_steps else float(n))
    ends = sorted(draw(st.lists(places, min_size=2, max_size=12, unique=True)))
    pairs = zip(ends[::2], ends[1::2], strict=False)
    keys = [Key(first, draw(st.sampled_from([first, last])), draw(NUMBERS)) for first, last in pairs]
    return Track(tuple(keys), over_steps, draw(st.booleans()))


SOUNDS = st.builds(Loudness, WORDS, st.sampled_from([*BANDS, "60-250"]), NUMBERS, NUMBERS)
FACTORS = st.lists(NUMBERS | tracks() | SOUNDS, min_size=1, max_size=3)
CURVES = st.builds(Curve, FACTORS.map(tuple))


@given(CURVES)
def test_every_curve_is_read_back_as_it_is_written(curve: Curve) -> None:
    assert read_curve(str(curve)) == curve
    assert str(read_curve(str(curve))) == str(curve)


@given(st.text("0123456789-:,@.*eadiosmth(" + ' "') | WORDS)
def test_any_text_is_a_curve_or_refused_in_one_sentence_with_a_place(text: str) -> None:
    try:
        curve = read_curve(text)
    except MotionError as error:
        assert "\n" not in str(error) and "there should be " in str(error)
        assert str(error).startswith(("at character ", "at the end"))
    else:
        assert read_curve(str(curve)) == curve


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("0: 1, 8 0.4", "at character 7, '8 0.4', there should be a key such as 8: 0.4"),
        ("0: x", "at character 4, 'x', there should be a number"),
        ("0: 1,", "at the end there should be a key"),
        ("12: 1, 8: 2", "at character 8, '8: 2', there should be a later key than 12"),
        ("@0: 1, 3: 2", "at character 8, '3: 2', there should be a key such as @0.5: 1"),
        ("@2: 1", "at character 1, '@2: 1', there should be a part of the way from @0 to @1"),
        ("12-8: 1", "the earlier end of the range first"),
        ("audio(x.wav, loud)", "at character 14, 'loud)', there should be a band: all, bass, mid, treble"),
        ("1e999", "at character 1, '1e999', there should be a smaller number"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, complaint: str) -> None:
    with pytest.raises(MotionError) as raised:
        read_curve(text)
    assert complaint in str(raised.value)


def test_values_stay_at_keys_and_go_straight_or_smoothly_between() -> None:
    assert read_curve("2: 1, 4-5: 3, -1: 0").at(8) == [1, 1, 1, 2, 3, 3, 1.5, 0]
    assert read_curve("smooth 0: 0, 4: 1").at(5) == [0, 0.15625, 0.5, 0.84375, 1]
    assert read_curve("2 * 0: 1, 2: 3 * @0: 1, @1: 0").at(3, 0.25) == [1.5, 3, 4.5]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0: 1, -1: 0", [0]),
        ("0: 1, 1: 3, -1: 0", [1, 0]),
        ("0-2: 1, -1: 0", [1, 1, 0]),
        ("1: 1, -2--1: 0", [0, 0, 0]),
        ("smooth 0: 1, -1: 0 * 0: 2, -1: 3", [0]),
    ],
)
def test_of_two_keys_at_one_frame_the_later_one_counts(text: str, values: list[float]) -> None:
    """Where one counts from the end, which a short clip shows alone."""
    assert read_curve(text).at(len(values)) == values


@given(tracks(), st.integers(0, 40))
def test_between_keys_nothing_is_beyond_them(track: Track, at: int) -> None:
    curve = Curve((track._replace(over_steps=True),))
    low, high = curve.span
    place = track.keys[0].first + (track.keys[-1].last - track.keys[0].first) * at / 40
    slack = 1e-9 * (abs(low) + abs(high))
    assert low - slack <= curve.at(1, place)[0] <= high + slack
    assert all(track.at(key.first) == track.at(key.last) == key.value for key in track.keys)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("0: 1, 16: 2", "16 is not in a clip of 16 frames: give 0 to 15"),
        ("-20: 2", "-20 is not in a clip"),
        ("12: 1, -8: 2", "-8 comes behind a later key"),
        ("0: 11", "which comes to 11: stay from 0 to 10"),
        ("2 * 0: 1, 1: 6", "which comes to 12: stay from 0 to 10"),
        ("0; 1", "scale is '0; 1': at character 1"),
    ],
)
@pytest.mark.parametrize("settings", [Clip, Tab])
def test_a_setting_refuses_what_is_not_in_its_clip_or_range(settings: type, text: str, complaint: str) -> None:
    with pytest.raises(MotionError, match=r"^scale is ") as raised:
        settings(scale=text)
    assert complaint in str(raised.value)


def test_a_text_that_is_a_number_is_the_number() -> None:
    assert Clip(scale="0.50") == Clip(scale=0.5)
    assert FIELDS["scale"].write(Clip(scale="0:1.0 ,8-12 : .4,-1:1").scale) == "0: 1, 8-12: 0.4, -1: 1"


@given(tracks().filter(lambda track: not track.over_steps), st.integers(1000, 2000))
def test_the_picture_stays_inside_itself(track: Track, frames: int) -> None:
    picture = ET.fromstring(drawing(Curve((track,)), frames))
    _, _, width, height = map(float, picture.attrib["viewBox"].split())
    for line in picture.findall("{http://www.w3.org/2000/svg}polyline"):
        points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
        assert all(0 <= x <= width and 0 <= y <= height for x, y in points)
