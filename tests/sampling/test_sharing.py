"""Work that is shared out is done once, and comes back whole and in order; windows of a clip, bit by bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from motion.sampling.animation import attach_windows
from motion.sampling.arrangement import Arrangement
from motion.sampling.sharing import ALONE, Sharing
from motion.sampling.windows import Windows
from tests.support.teams import in_threads


@given(st.integers(1, 5), st.integers(0, 12))
def test_each_does_its_part_and_all_have_the_whole(size: int, count: int) -> None:
    done: list[int] = []

    def work(sharing: Sharing) -> list[int]:
        return list(sharing.map(lambda item: done.append(item) or item * item, range(count)))

    assert in_threads(size, work) == [[item * item for item in range(count)]] * size
    assert sorted(done) == list(range(count))


def test_the_others_serve_until_the_first_has_all() -> None:
    """The first stops in the middle of one walk and begins another."""
    done: list[tuple[int, int]] = []

    def work(sharing: Sharing) -> list[int]:
        def square(item: int) -> int:
            done.append((sharing.rank, item))
            return item * item

        if not sharing.leads:
            sharing.serve(square)
            return []
        walk = sharing.map_for_first(square, range(9))
        found = [next(walk), *sharing.map_for_first(square, range(4))]
        sharing.end()
        return found

    assert in_threads(3, work) == [[0, 0, 1, 4, 9], [], []]
    assert sorted(done) == [(0, 0), (0, 0), (0, 3), (1, 1), (1, 1), (2, 2), (2, 2)]


class FramesTogether(nn.Module):
    """What each frame of a call becomes depends on all of them, in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        self.calls += 1
        return (x * x.mean()).sin() + context.mean(dim=(1, 2)).view(-1, 1, 1, 1) / 3


@pytest.mark.parametrize("size", [2, 3, 7])
def test_windows_are_shared_out_and_bit_equal_to_one_process(size: int) -> None:
    """Also where there are more processes than windows."""
    x, context = torch.randn(2 * 22, 4, 8, 8), torch.randn(2 * 22, 3, 5)

    def drawn(sharing: Sharing) -> tuple[list[Tensor], int]:
        unet, arrangement = FramesTogether(), Arrangement(Windows(22, 8, overlap=2), sharing=sharing)
        with attach_windows(unet, arrangement):
            steps = [unet(x, torch.full((len(x),), time), context) for time in (900, 500, 100)]
        return steps, unet.calls

    wanted, calls = drawn(ALONE)
    for found, its_calls in in_threads(size, drawn):
        assert all(map(torch.equal, found, wanted))
        assert its_calls <= -(-calls // 3 // size) * 3
