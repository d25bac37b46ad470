"""Windows cover every frame in every step, whatever they are asked for, and averages weigh every frame once."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motion.errors import MotionError
from motion.models.motion.architecture import Architecture
from motion.sampling.windows import FUSES, HIERARCHICAL, SCHEDULES, Windows, plan
from motion.settings.choices import CONTEXT_FUSES, CONTEXT_SCHEDULES
from motion.settings.settings import Clip
from tests.support.small import any_windows

CUT = any_windows(130)
STEPS, TIMES = st.integers(0, 300), st.floats(0, 1)


@given(CUT, STEPS, TIMES)
def test_every_frame_is_covered_and_windows_are_of_one_length(windows: Windows, step: int, time: float) -> None:
    found = windows.at(step, time)
    assert {frame for window in found for frame in window} == set(range(windows.frames))
    assert all(len(window) == len(set(window)) == windows.size for window in found)
    assert (len(found) > 1) == windows.cut
    assert found == windows.at(step, time)


@given(CUT, STEPS, TIMES)
def test_shares_add_up_to_one_and_a_frame_alone_has_it_whole(windows: Windows, step: int, time: float) -> None:
    found = windows.at(step, time)
    of_frame: dict[int, list[float]] = {}
    for window, shares in zip(found, windows.shares(found), strict=True):
        for frame, share in zip(window, shares, strict=True):
            of_frame.setdefault(frame, []).append(share)
    for shares in of_frame.values():
        assert min(shares) > 0
        assert sum(shares) == pytest.approx(1)
        assert len(shares) > 1 or shares == [1.0]


@given(CUT, STEPS, TIMES)
def test_only_a_loop_leads_from_the_last_frame_into_the_first(windows: Windows, step: int, time: float) -> None:
    open_clip = replace(windows, closed=False)
    assert all(list(window) == sorted(window) for window in open_clip.at(step, time))


@given(CUT.filter(lambda windows: windows.schedule in ("uniform", "static")), STEPS)
def test_neighbours_share_the_overlap(windows: Windows, step: int) -> None:
    windows = replace(windows, stride=1, closed=False)
    found = windows.at(step)
    wanted = min(windows.overlap, windows.size - 1)
    assert all(len(set(a) & set(b)) >= wanted for a, b in pairwise(found))


def test_windows_as_everybody_draws_them() -> None:
    static = Windows(40, 16, 4, schedule="static")
    assert [window[0] for window in static.at(7)] == [0, 12, 24]
    assert [window[0] for window in replace(static, frames=41).at(7)] == [0, 12, 24, 25]
    assert [window[0] for window in replace(static, schedule="batched").at(7)] == [0, 16, 24]
    loop = Windows(40, 16, 4, closed=True)
    assert [window[0] for window in loop.at(0)] == [0, 12, 24, 36]
    assert loop.at(0)[-1] == (36, 37, 38, 39, *range(12))
    assert Windows(40, 16, 4, stride=2).at(0)[-1] == tuple(range(9, 40, 2))
    assert {len(set(windows.levels())) for windows in (replace(loop, stride=9), replace(loop, frames=31))} == {2, 1}


def test_borders_are_elsewhere_in_each_step() -> None:
    for closed in (False, True):
        windows = Windows(64, 16, 4, closed=closed)
        firsts = {window[0] for step in range(25) for window in windows.at(step)}
        assert len(firsts) >= 40


def test_composite_mixes_the_clip_only_in_the_noise() -> None:
    windows = Windows(64, 16, schedule="composite")
    mixed = windows.at(0, time=0.95)
    assert len(mixed) == 4
    assert mixed != windows.at(1, time=0.95)
    assert max(max(window) - min(window) for window in mixed) > 32
    assert windows.at(5, time=0.2) == windows.at(5, time=0.5) == replace(windows, schedule="uniform").at(5)
    assert windows.at(4, time=0.2) == replace(windows, schedule="uniform").at(4)


def test_composite_lets_all_of_the_clip_agree_on_its_look() -> None:
    windows = Windows(64, 16, schedule="composite")
    assert windows.at(4, time=0.5) == [tuple(range(first, 64, 4)) for first in range(4)]
    odd = replace(windows, frames=19, length=8).at(4, time=0.5)
    assert [window[:3] for window in odd] == [(0, 2, 4), (1, 3, 5), (0, 2, 6)]


def test_weights_as_everybody_knows_them() -> None:
    windows = Windows(12, 5, overlap=2)
    assert FUSES["flat"](windows, (0, 1, 2, 3, 4)) == (1, 1, 1, 1, 1)
    assert FUSES["pyramid"](windows, (0, 1, 2, 3, 4)) == (1, 2, 3, 2, 1)
    third = 1 / 3
    assert FUSES["overlap-linear"](windows, (3, 4, 5, 6, 7)) == pytest.approx((third, 2 * third, 1, 2 * third, third))
    assert FUSES["overlap-linear"](windows, (0, 1, 2, 3, 4)) == pytest.approx((1, 1, 1, 2 * third, third))
    assert FUSES["relative"](windows, (3, 4, 5, 6, 7)) == pytest.approx((0.01, 0.501, 1, 0.501, 0.01), abs=0.002)


def test_the_settings_offer_what_there_is() -> None:
    assert CONTEXT_SCHEDULES.keys() == {*SCHEDULES, HIERARCHICAL}
    assert CONTEXT_FUSES.keys() == FUSES.keys()


V3 = Architecture.of_unet("v3", (32, 64))


@pytest.mark.parametrize(
    ("settings", "frames", "size"),
    [
        ({"frames": 8}, 16, 16),
        ({"frames": 32}, 32, 32),
        ({"frames": 33}, 33, 16),
        ({"frames": 2000}, 2000, 16),
        ({"frames": 32, "context_length": 16}, 32, 16),
        ({"frames": 64, "context_length": 24}, 64, 24),
        ({"frames": 20, "context_length": 900}, 20, 20),
    ],
)
def test_a_clip_is_planned_by_what_the_module_can(settings: dict[str, int], frames: int, size: int) -> None:
    windows = plan(Clip(**settings), V3)  # type: ignore[arg-type]
    assert (windows.frames, windows.size) == (frames, size)


def test_what_the_module_cannot_is_refused() -> None:
    with pytest.raises(MotionError, match=r"33 frames .* 1 to 32"):
        plan(Clip(frames=64, context_length=33), V3)
    with pytest.raises(MotionError, match="context overlap is 4: windows of 4 frames share 3 at most"):
        plan(Clip(frames=64, context_length=4), V3)


@pytest.mark.parametrize(
    ("frames", "length", "keys", "between"),
    [
        (9, 3, (0, 2, 4, 6, 8), [(1,), (3,), (5,), (7,)]),
        (16, 4, (0, 3, 6, 9, 12, 15), [(1, 2), (4, 5), (7, 8), (10, 11), (13, 14)]),
        (17, 4, (0, 3, 6, 9, 12, 15, 16), [(1, 2), (4, 5), (7, 8), (10, 11), (13, 14)]),
    ],
)
def test_the_hierarchy_is_controlvideos(
    frames: int, length: int, keys: tuple[int, ...], between: list[tuple[int, ...]]
) -> None:
    windows = plan(Clip(frames=frames, context_schedule=HIERARCHICAL), None)
    assert (windows.length, windows.key_frames, windows.at(3)) == (length, keys, [keys, *between])
    assert windows.ends(keys) == () and [windows.ends(window) for window in between][:2] == [keys[:2], keys[1:3]]
    assert {frame for window in windows.at(0) for frame in window} == set(range(frames))


@pytest.mark.parametrize("settings", [{"loop": "closed"}, {"context_engine": "attention"}])
def test_the_hierarchy_is_for_open_clips(settings: dict[str, str]) -> None:
    with pytest.raises(MotionError, match="context schedule is hierarchical"):
        plan(Clip(context_schedule=HIERARCHICAL, **settings), None)  # type: ignore[arg-type]
