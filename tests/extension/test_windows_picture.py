"""The picture of the windows shows those that are: every frame in every step, in lanes that do not overlap."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from motion.extension.page.windows_picture import FRAMES, LANE, LEFT, STEPS, WIDTH, describe_windows, drawing
from motion.sampling.windows import FUSES, SCHEDULES, Windows

SVG = "{http://www.w3.org/2000/svg}"
WINDOWS = st.builds(
    Windows,
    frames=st.integers(1, 400),
    length=st.none() | st.integers(1, 40),
    overlap=st.integers(0, 40),
    stride=st.integers(1, 3),
    schedule=st.sampled_from(list(SCHEDULES)),
    fuse=st.sampled_from(list(FUSES)),
    closed=st.booleans(),
)


def bars(step: ET.Element, shown: int) -> list[tuple[float, range]]:
    """Each bar's height and frames."""
    scale = (WIDTH - LEFT) / shown
    found = []
    for bar in step.iter(f"{SVG}rect"):
        start, count = ((float(bar.attrib[name]) - off) / scale for name, off in (("x", LEFT), ("width", 0)))
        found.append((float(bar.attrib["y"]), range(round(start), round(start) + round(count))))
    return found


@given(WINDOWS, st.integers(1, 30))
def test_it_shows_which_frames_are_together_in_which_step(windows: Windows, steps: int) -> None:
    picture, shown = ET.fromstring(drawing(windows, steps)), min(windows.frames, FRAMES)
    groups = picture.findall(f"{SVG}g")
    assert [group.findtext(f"{SVG}title") for group in groups] == [f"step {n + 1}" for n in range(min(steps, STEPS))]
    for step, group in enumerate(groups):
        drawn = bars(group, shown)
        taken = [(y, frame) for y, run in drawn for frame in run]
        assert len(set(taken)) == len(taken)
        wanted = [frame for window in windows.at(step, 1 - step / steps) for frame in window if frame < shown]
        assert sorted(frame for _, frame in taken) == sorted(wanted)
        assert set(wanted) == set(range(shown))
    height = float(picture.attrib["viewBox"].split()[3])
    assert all(y + LANE < height for group in groups for y, _ in bars(group, shown))


def test_neighbours_lie_below_one_another_and_partitions_side_by_side() -> None:
    for schedule, lanes in (("static", 2), ("batched", 1), ("composite", 1)):
        first = ET.fromstring(drawing(Windows(64, 16, schedule=schedule), 20)).find(f"{SVG}g")
        assert first is not None
        assert len({y for y, _ in bars(first, 64)}) == lanes


def test_colours_suit_a_light_and_a_dark_page() -> None:
    text = drawing(Windows(64, 16), 4)
    assert "currentColor" in text
    assert "#" not in text
    assert "black" not in text


def test_the_sentence_says_what_is_left_out() -> None:
    assert describe_windows(Windows(16), 20) == "All 16 frames move together in each step."
    assert describe_windows(Windows(64, 16, schedule="static"), 12) == "64 frames in windows of 16."
    viewed = describe_windows(Windows(64, 32, view_length=16), 12)
    assert viewed == "64 frames in windows of 32, each in views of 16."
    assert describe_windows(Windows(2000, 16, schedule="batched"), 20).endswith(
        "Shown: frames 0 to 255, steps 1 to 12."
    )


def test_a_picture_of_a_long_clip_stays_small() -> None:
    assert len(drawing(Windows(10_000, 16, stride=3, schedule="composite"), 20)) < 500_000
