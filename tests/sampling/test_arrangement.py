"""The order of rows: whole clips or windows of them, and back."""

from __future__ import annotations

import contextlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from motion.sampling.animation import attach_windows
from motion.sampling.arrangement import Arrangement, fusion
from motion.sampling.rows import Average, Rows, take_rows
from motion.sampling.windows import Windows
from motion.video.loop import play_order
from tests.support.small import any_windows, far

PROMPTS, GROUPS = st.integers(1, 4), st.integers(0, 3)
WINDOWS = any_windows(40)


@given(WINDOWS, PROMPTS, GROUPS, st.integers(1, 5))
def test_rows_are_those_of_the_frames_and_keep_clips_whole(
    windows: Windows, prompts: int, groups: int, steps: int
) -> None:
    arrangement, frames = Arrangement(windows, prompts), windows.frames
    batch = frames * (prompts + groups)
    for time in range(steps):
        for window in arrangement.begin(time):
            arrangement.take(window)
            rows = arrangement.rows(batch, window)
            owner = [row % prompts if row < frames * prompts else prompts + row // frames for row in rows]
            frame = [row // prompts if row < frames * prompts else row % frames for row in rows]
            assert frame == arrangement.frame_numbers(len(rows))
            clips = [owner[start : start + len(window)] for start in range(0, len(rows), len(window))]
            assert all(len(set(clip)) == 1 for clip in clips)
            assert len({clip[0] for clip in clips}) == prompts + groups


def test_calls_of_one_step_have_the_same_windows() -> None:
    arrangement = Arrangement(Windows(40, 16))
    first = arrangement.begin(torch.full((80,), 900))
    assert arrangement.begin(900.0) == first
    assert arrangement.begin(800) != first
    assert arrangement.begin(None) != arrangement.begin(None)


@given(WINDOWS, st.lists(st.integers(0, 5), min_size=1))
def test_after_a_restart_windows_are_those_of_the_beginning(windows: Windows, times: list[int]) -> None:
    """Also where it begins at the time at which the last one ended."""
    arrangement = Arrangement(windows)
    once = [arrangement.begin(time) for time in times]
    arrangement.restart()
    assert [arrangement.begin(time) for time in times] == once


class Stop(BaseException):
    """What a host ends its sampling with."""


@pytest.mark.parametrize("lets", range(4))
def test_a_call_ends_where_the_pause_says_and_the_next_is_whole(lets: int) -> None:
    taken: list[int] = []
    asked = iter([None] * lets)

    def pause() -> None:
        if next(asked, Stop) is Stop:
            raise Stop

    class Unet(nn.Module):
        def forward(self, x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
            taken.append(len(x))
            return x

    unet, x = Unet(), torch.randn(2 * 48, 1)
    arrangement = Arrangement(Windows(48, 16, schedule="batched"), pause=pause)
    with attach_windows(unet, arrangement):
        with contextlib.suppress(Stop):
            unet(x, torch.full((96,), 900))
            assert lets == 3
        assert taken == [32] * lets
        arrangement.pause = lambda: None
        assert torch.equal(unet(x, torch.full((96,), 800)), x)


def test_a_loop_has_its_seam_at_every_frame_in_turn() -> None:
    arrangement = Arrangement(Windows(16, closed=True))
    seams = [arrangement.begin(time)[0][0] for time in range(50)]
    assert set(seams) == set(range(16))
    assert seams[0] == 0


def test_the_engines_share_the_windows() -> None:
    """The UNet runs once for all frames, or once for each window."""
    calls, whole = Arrangement(Windows(40, 16)), Arrangement(Windows(40, 16, engine="attention"))
    x = torch.zeros(1)
    assert whole.begin(1) == [tuple(range(40))]
    found = whole.fusion(x)
    assert found is not None
    assert list(map(tuple, found.windows.tolist())) == calls.begin(1)
    assert calls.fusion(x) is None


@given(WINDOWS, st.integers(0, 30))
def test_what_is_the_same_in_all_windows_is_its_own_average(windows: Windows, step: int) -> None:
    found = windows.at(step, 1.0)
    x = torch.randn(3, windows.frames, 2)
    attended: list[torch.Size] = []
    averaged = fusion(windows, found).average(x, lambda seen: attended.append(seen.shape) or seen)
    assert far(averaged, x) <= 1e-6
    assert attended == [(3 * len(found), windows.size, 2)]
    average = Average(windows.frames, x.device)
    rows = x.transpose(0, 1)
    for window, shares in zip(found, windows.shares(found), strict=True):
        average.add((rows[list(window)],), Rows(window), shares)
    assert far(average.result()[0], rows) <= 1e-6


@given(st.permutations(list(range(6))))
def test_what_was_taken_comes_back(rows: list[int]) -> None:
    tree = {"x": torch.randn(6, 2), "t": torch.tensor(3), "control": [torch.randn(6), torch.randn(5)], "text": "a"}
    moved = take_rows(tree, Rows(rows), 6)
    assert torch.equal(moved["x"], tree["x"][rows])
    assert torch.equal(moved["control"][1], tree["control"][1])
    average = Average(6, torch.device("cpu"))
    average.add(moved, Rows(rows), [1.0] * 6)
    back = average.result()
    assert torch.equal(back["x"], tree["x"])
    assert torch.equal(back["control"][0], tree["control"][0])
    assert back["text"] == "a"


@given(st.integers(1, 100))
def test_ping_pong_goes_there_and_back_and_shows_each_end_once(frames: int) -> None:
    assert play_order(frames, "none") == play_order(frames, "closed") == list(range(frames))
    both = play_order(frames, "ping-pong")
    assert len(both) == max(frames, 2 * frames - 2)
    assert all(abs(a - b) == 1 for a, b in zip(both, both[1:] + both[:1], strict=True)) or frames == 1
