"""The order of rows: a permutation that puts clips side by side, and back."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from motion.arrangement import Arrangement, reordered, restored
from motion.video.loop import played

FRAMES, PROMPTS, GROUPS = st.integers(1, 40), st.integers(1, 4), st.integers(0, 3)


@given(FRAMES, PROMPTS, GROUPS, st.booleans(), st.integers(1, 5))
def test_every_order_is_a_permutation_that_keeps_clips_whole(
    frames: int, prompts: int, groups: int, closed: bool, passes: int
) -> None:
    arrangement = Arrangement(frames, prompts, closed)
    batch = frames * (prompts + groups)
    for _ in range(passes):
        order = arrangement.next_order(batch)
        assert sorted(order) == list(range(batch))
        owner = [row % prompts if row < frames * prompts else prompts + row // frames for row in order]
        frame = [row // prompts if row < frames * prompts else row % frames for row in order]
        assert frame == arrangement.frame_numbers(batch)
        for start in range(0, batch, frames):
            assert len(set(owner[start : start + frames])) == 1
            first = frame[start]
            assert frame[start : start + frames] == [(first + step) % frames for step in range(frames)]
            assert closed or first == 0


def test_a_loop_has_its_seam_at_every_frame_in_turn() -> None:
    arrangement = Arrangement(16, closed=True)
    seams = [arrangement.next_order(16)[0] for _ in range(50)]
    assert set(seams) == set(range(16))
    assert seams[0] == 0


@given(st.permutations(list(range(6))))
def test_what_was_reordered_comes_back(order: list[int]) -> None:
    tree = {"x": torch.randn(6, 2), "t": torch.tensor(3), "control": [torch.randn(6), torch.randn(5)], "text": "a"}
    moved = reordered(tree, order)
    assert torch.equal(moved["x"], tree["x"][order])
    assert torch.equal(moved["control"][1], tree["control"][1])
    back = restored(moved, order)
    assert torch.equal(back["x"], tree["x"])
    assert torch.equal(back["control"][0], tree["control"][0])
    assert back["text"] == "a"


@given(st.integers(1, 100))
def test_ping_pong_goes_there_and_back_and_shows_each_end_once(frames: int) -> None:
    assert played(frames, "none") == played(frames, "closed") == list(range(frames))
    both = played(frames, "ping-pong")
    assert len(both) == max(frames, 2 * frames - 2)
    assert all(abs(a - b) == 1 for a, b in zip(both, both[1:] + both[:1], strict=True)) or frames == 1
