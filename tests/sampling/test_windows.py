"""Windows cover every frame in every step, whatever they are asked for, and averages weigh every frame once."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motion.errors import MotionError
from motion.models.motion.architecture import FAMILIES, Architecture
from motion.sampling.fuses import noise_level
from motion.sampling.windows import FUSES, HIERARCHICAL, SCHEDULES, Windows, plan
from motion.settings.choices import CONTEXT_FUSES, CONTEXT_SCHEDULES, SECOND_SCHEDULES
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
    for window, shares in zip(found, windows.shares(found, step, time), strict=True):
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


@pytest.mark.parametrize(
    ("length", "wanted"), [(6, (0.01, 0.01, 3, 3, 2, 1)), (5, (0.01, 0.01, 3, 2, 1)), (2, (1, 1)), (1, (1,))]
)
def test_a_sawtooth_falls_from_the_middle_on(length: int, wanted: tuple[float, ...]) -> None:
    assert FUSES["sawtooth"](Windows(12, length), tuple(range(length))) == wanted


def test_the_bell_is_as_wide_as_the_noise() -> None:
    windows, window = Windows(40, 17), tuple(range(17))
    for time, width in ((0.0, 1), (0.999, 9)):
        found = FUSES["gauss"](windows, window, 0, time)
        assert found[8] == 1 and found == found[::-1]
        assert found[6] == pytest.approx(math.exp(-2 / width**2))


def test_the_noise_level_is_that_of_the_schedule() -> None:
    kept = FAMILIES["v3"].betas.alphas_cumprod()
    for step in (0, 250, 500, 999):
        sigma = float(((1 - kept[step]) / kept[step]).sqrt())
        assert noise_level((step + 1) / 1000) == pytest.approx(sigma, rel=0.02)


def test_chance_is_the_same_in_every_run_and_another_in_each_step() -> None:
    windows = Windows(40, 16, schedule="static", fuse="random")
    first, again, following = (windows.shares(windows.at(0), step) for step in (3, 3, 4))
    assert first == again != following


@given(CUT, STEPS, TIMES, st.floats(0, 1), st.sampled_from(list(SECOND_SCHEDULES)))
def test_a_second_schedule_takes_over(windows: Windows, step: int, time: float, until: float, then: str) -> None:
    both = replace(windows, until=until, then=then)
    wanted = windows if 1 - time <= until else replace(windows, schedule=then)
    assert both.at(step, time) == wanted.at(step, time)


def test_views_lie_as_windows_do() -> None:
    windows = Windows(64, 32, 8, schedule="static", view_length=16, view_overlap=4)
    views = windows.views(32)
    assert views is not None and [view[0] for view in views.at(0)] == [0, 12, 16]
    assert (windows.reach, windows.views(16), replace(windows, view_length=0).reach) == (16, None, 32)
    assert replace(windows, engine="attention").reach == 32
    loop = replace(windows, frames=32, closed=True)
    assert [view.closed for view in (loop.views(32), replace(loop, frames=64).views(32)) if view] == [True, False]


def test_the_settings_offer_what_there_is() -> None:
    assert CONTEXT_SCHEDULES.keys() == {*SCHEDULES, HIERARCHICAL}
    assert SECOND_SCHEDULES.keys() == SCHEDULES.keys()
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
        ({"frames": 100, "context_length": 48, "view_length": 16}, 100, 48),
        ({"frames": 48, "position_length": 48}, 48, 48),
        ({"frames": 48, "position_length": 52, "position_offset": 4}, 48, 48),
        ({"frames": 100, "position_length": 48}, 100, 16),
        ({"frames": 20, "position_cap": 12}, 20, 12),
    ],
)
def test_a_clip_is_planned_by_what_the_module_can(settings: dict[str, int], frames: int, size: int) -> None:
    windows = plan(Clip(**settings), V3)  # type: ignore[arg-type]
    assert (windows.frames, windows.size) == (frames, size)


@pytest.mark.parametrize(
    ("family", "positions", "length"), [("v3", 64, 64), ("v3", 32, 16), ("v2", 24, 16), ("v1", 48, 16)]
)
def test_a_module_of_long_clips_has_windows_of_its_own_length(family: str, positions: int, length: int) -> None:
    """A v1 with a longer table was never trained on clips as long as it."""
    module = Architecture.of_unet(family, (32, 64), positions=positions)
    windows = plan(Clip(frames=200), module)
    assert (windows.size, plan(Clip(frames=8), module).size) == (length, 16)


def test_what_the_module_cannot_is_refused() -> None:
    with pytest.raises(MotionError, match=r"33 frames .* 1 to 32"):
        plan(Clip(frames=64, context_length=33), V3)
    with pytest.raises(MotionError, match="context overlap is 4: windows of 4 frames share 3 at most"):
        plan(Clip(frames=64, context_length=4), V3)
    with pytest.raises(MotionError, match="33 frames"):
        plan(Clip(frames=64, context_length=48, view_length=33), V3)
    with pytest.raises(MotionError, match="view overlap is 4: views of 4 frames share 3 at most"):
        plan(Clip(frames=64, context_length=16, view_length=4), V3)
    with pytest.raises(MotionError, match="view length is 8: views are for the context engine denoiser"):
        plan(Clip(view_length=8, context_engine="attention"), V3)
    with pytest.raises(MotionError, match="position offset is 32: the table has 32 positions"):
        plan(Clip(position_offset=32), V3)


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


@pytest.mark.parametrize("settings", [{"loop": "closed"}, {"context_engine": "attention"}, {"context_until": 0.5}])
def test_the_hierarchy_is_for_open_clips(settings: dict[str, Any]) -> None:
    with pytest.raises(MotionError, match="context schedule is hierarchical"):
        plan(Clip(context_schedule=HIERARCHICAL, **settings), None)
