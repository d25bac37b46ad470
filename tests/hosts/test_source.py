"""The clip that another is made of: which frames, in which size, and what is said of one that does not do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from motion.errors import MotionError
from motion.fields.table import Size
from motion.hosts.source import Source
from motion.settings.source import SourceSettings
from motion.video.write import write


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of 96 x 64, each of one grey: its number times 20."""
    path = tmp_path_factory.mktemp("source") / "clip.webp"
    write((np.full((64, 96, 3), 20 * number, np.uint8) for number in range(12)), path, 12, "")
    return path


def greys(source: Source, count: int) -> list[int]:
    frames = list(source.frames(count, Size(64, 64)))
    assert {frame.shape for frame in frames} == {(64, 64, 3)}
    return [round(frame.mean()) // 20 for frame in frames]


@pytest.mark.parametrize(
    ("span", "every", "used"),
    [
        (None, None, range(12)),
        ("3-7", None, range(3, 8)),
        ("3-", "2", range(3, 12, 2)),
        ("-4", "3", range(0, 5, 3)),
        ("5-5", None, [5]),
    ],
)
def test_frames_are_those_of_the_range(clip: Path, span: str | None, every: str | None, used: list[int]) -> None:
    source = Source.parse(str(clip), span, every)
    measures = source.measure()
    assert (measures.frames, measures.fps) == (len(used), 12 / source.every)
    assert greys(source, len(used)) == list(used)


def test_large_sources_are_made_smaller_and_small_ones_kept(clip: Path, tmp_path: Path) -> None:
    assert Source(clip).measure().size == Size(96, 64)
    Image.new("RGB", (3840, 2160)).save(tmp_path / "large.png")
    size = Source(tmp_path / "large.png").measure().size
    assert size.width * size.height <= 1.02 * 512**2 and size.width / size.height == pytest.approx(16 / 9, rel=0.02)


def test_a_still_is_as_many_frames_as_are_wanted(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), (40, 40, 40)).save(tmp_path / "still.png")
    assert greys(Source(tmp_path / "still.png"), 5) == [2] * 5


@pytest.mark.parametrize("strength", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 4, 25])
def test_steps_are_counted_as_in_the_webuis(strength: float, steps: int) -> None:
    taken = steps - SourceSettings(strength).first_step(steps)
    assert taken == int(min(strength, 0.999) * steps) + 1


def test_what_does_not_do_is_named(clip: Path) -> None:
    for span, every, named in (("7-3", None, "7-3"), ("a", None, "range"), (None, "0", "every 0")):
        with pytest.raises(MotionError, match=named):
            Source.parse(str(clip), span, every)
    with pytest.raises(MotionError, match="has 12 frames and the clip 16"):
        list(Source(clip).frames(16, Size(64, 64)))
    with pytest.raises(MotionError, match="has no frame 20"):
        Source(clip, start=20).measure()
    with pytest.raises(MotionError, match="does not exist"):
        Source(clip.parent / "missing.mp4").measure()


@pytest.mark.parametrize(
    ("fps", "used"),
    [
        (6, range(0, 12, 2)),
        (12, range(12)),
        (24, [number // 2 for number in range(24)]),
        (8, [0, 1, 3, 4, 6, 7, 9, 10]),
    ],
)
def test_frames_are_left_out_or_repeated_to_a_target_rate(clip: Path, fps: float, used: Sequence[int]) -> None:
    source = Source(clip, fps=fps)
    assert source.measure()[:2] == (len(used), fps)
    assert greys(source, len(used)) == list(used)


def test_a_folder_has_no_rate_to_be_changed(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "0.png")
    with pytest.raises(MotionError, match="no frame rate of its own"):
        Source(tmp_path, fps=8).measure()
