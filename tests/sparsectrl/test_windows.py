"""`sparsectrl.attach` on clips in windows: what an encoder is shown, in both engines and layouts of UNets."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

import motion
import sparsectrl
from motion.errors import MotionError
from motion.sampling.animation import attach_windows
from motion.sampling.arrangement import Arrangement
from motion.sampling.windows import Windows
from tests.support import small
from tests.support.small import far, rows, run

FRAMES, LENGTH = 10, 4
ENGINES = ["denoiser", "attention"]
pytestmark = pytest.mark.usefixtures("inference")
random_encoder = partial(small.random_encoder, positions=LENGTH)
random_model = partial(small.random_model, positions=LENGTH)
keyed = partial(small.keyed, clip=FRAMES, size=(8, 8))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("length", [LENGTH, LENGTH + 3])
def test_one_window_is_bit_equal_to_none(host: nn.Module, engine: str, length: int) -> None:
    model, encoder, inputs, shown = (
        random_model(positions=16),
        random_encoder(),
        small.batch(LENGTH, 2, (8, 8)),
        keyed(1, clip=LENGTH),
    )
    with motion.attach(host, model, LENGTH), sparsectrl.attach(host, encoder, shown, LENGTH):
        plain = run(host, inputs)
    together = Arrangement(Windows(LENGTH, length, engine=engine))
    with (
        motion.attach(host, model, LENGTH, arrangement=together),
        sparsectrl.attach(host, encoder, shown, LENGTH, arrangement=together) as effect,
    ):
        assert torch.equal(run(host, inputs), plain)
    assert effect.strength > 0


@pytest.mark.parametrize("control_first", [True, False])
@pytest.mark.parametrize("closed", [True, False])
def test_each_window_gets_the_condition_of_its_frames_or_the_nearest_key(
    host: nn.Module, control_first: bool, closed: bool
) -> None:
    """Of a clip beyond the encoder's reach, whoever was attached first."""
    model, encoder, inputs, shown = random_model(), random_encoder(), small.batch(FRAMES, 2, (8, 8)), keyed(1)
    windows = Windows(FRAMES, LENGTH, 2, schedule="static", closed=closed)
    together = Arrangement(windows)
    scopes: list[Any] = [
        motion.attach(host, model, FRAMES, arrangement=together),
        sparsectrl.attach(host, encoder, shown, FRAMES, arrangement=together),
    ]
    with ExitStack() as stack:
        for scope in reversed(scopes) if control_first else scopes:
            stack.enter_context(scope)
        drawn = run(host, inputs)
    wanted, found = torch.zeros_like(drawn), windows.at(0)
    assert sum(1 in window for window in found) < len(found)
    for window, shares in zip(found, windows.shares(found), strict=True):
        near = list(window)
        if 1 not in window:  # the key is nearer to the first frame of it, or to the last: around a loop's end
            near[0 if abs(1 - near[0]) < abs(1 - near[-1]) else -1] = 1
        both = [*window, *(FRAMES + frame for frame in window)]
        with motion.attach(host, model, LENGTH), sparsectrl.attach(host, encoder, shown[near], LENGTH):
            wanted[both] += run(host, rows(inputs, both)) * torch.tensor(shares * 2)[:, None, None, None]
    assert far(drawn, wanted) <= 1e-5


def test_in_the_attention_engine_residuals_of_windows_are_averaged(host: nn.Module) -> None:
    """Of windows that do not overlap each frame gets those of its own, with everything else the UNet's own."""
    encoder, inputs, shown = random_encoder(), small.batch(8, 2, (8, 8)), keyed(1, 6, clip=8)
    together = Arrangement(Windows(8, LENGTH, 0, schedule="batched", engine="attention"))
    with (
        motion.attach(host, random_model(), 8, 0, together),
        sparsectrl.attach(host, encoder, shown, 8, arrangement=together) as effect,
    ):
        drawn = run(host, inputs)
    assert effect.passes == 1
    for start in range(0, 16, LENGTH):
        part = list(range(start, start + LENGTH))
        with sparsectrl.attach(host, encoder, shown[[row % 8 for row in part]], LENGTH):
            assert far(drawn[part], run(host, rows(inputs, part))) <= 1e-5


@pytest.mark.parametrize("engine", ENGINES)
def test_prompts_side_by_side_and_windows(host: nn.Module, engine: str) -> None:
    model, encoder, inputs, shown = random_model(), random_encoder(), small.batch(FRAMES, 3, (8, 8)), keyed(0, 7)
    mixed = [row for frame in range(FRAMES) for row in (frame, FRAMES + frame)] + list(range(2 * FRAMES, 3 * FRAMES))
    drawn = []
    for prompts, wanted in ((1, list(range(3 * FRAMES))), (2, mixed)):
        together = Arrangement(Windows(FRAMES, LENGTH, 1, engine=engine), prompts)
        with (
            motion.attach(host, model, FRAMES, arrangement=together),
            sparsectrl.attach(host, encoder, shown, FRAMES, arrangement=together),
        ):
            drawn.append(run(host, rows(inputs, wanted)))
    assert torch.equal(drawn[1], drawn[0][mixed])


@pytest.mark.parametrize("control_first", [True, False])
@pytest.mark.parametrize("closed", [True, False])
def test_rows_that_a_host_lays_out_otherwise(host: nn.Module, control_first: bool, closed: bool) -> None:
    """Two prompts per frame side by side, also in a loop that begins elsewhere: keys stay with their frames."""
    encoder, model = random_encoder(), random_model()
    inputs, condition = small.batch(LENGTH, 3, (8, 8)), keyed(0, 1, clip=LENGTH)
    mixed = [row for frame in range(LENGTH) for row in (frame, LENGTH + frame)] + list(range(2 * LENGTH, 3 * LENGTH))
    arrangement = Arrangement(Windows(LENGTH, closed=closed), prompts=2)
    arrangement.begin(999)  # so that the next step begins a loop elsewhere
    scopes = [
        motion.attach(host, model, LENGTH, 0, arrangement),
        sparsectrl.attach(host, encoder, condition, LENGTH, arrangement=arrangement),
    ]
    with ExitStack() as stack:
        for scope in reversed(scopes) if control_first else scopes:
            stack.enter_context(scope)
        mixed_output = run(host, rows(inputs, mixed))
    order = list(arrangement.together)
    assert (order[0] != 0) == closed
    turned = [group * LENGTH + frame for group in range(3) for frame in order]
    with sparsectrl.attach(host, encoder, condition[order], LENGTH):
        plain = run(host, rows(inputs, turned))
    restored = torch.empty_like(plain)
    restored[turned] = plain
    assert far(mixed_output, restored[mixed]) <= 1e-5


def test_a_window_beyond_the_encoders_reach_is_refused(host: nn.Module) -> None:
    together = Arrangement(Windows(FRAMES, 5))
    with (
        pytest.raises(MotionError, match="5 frames do not fit this SparseCtrl encoder: it reaches over 1 to 4"),
        sparsectrl.attach(host, random_encoder(), keyed(0), FRAMES, arrangement=together),
    ):
        raise AssertionError("attached")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_scale_over_frames_acts_by_their_numbers_in_windows(host: nn.Module, engine: str) -> None:
    """Where it is 0 nothing is added, bit by bit; a curve that is the same everywhere is the number."""
    encoder, inputs, shown = random_encoder(), small.batch(FRAMES, 2, (8, 8)), keyed(1)

    def drawn(scale: float | str) -> torch.Tensor:
        together = Arrangement(Windows(FRAMES, LENGTH, 2, engine=engine))
        windowed = attach_windows(host, together)
        with windowed, sparsectrl.attach(host, encoder, shown, FRAMES, scale, arrangement=together):
            return run(host, inputs)

    plain, found = drawn(0), drawn("0: 1, 4: 0, 8: 0, 9: 2")
    still = [row for row in range(2 * FRAMES) if 4 <= row % FRAMES <= 8]
    assert torch.equal(found[still], plain[still])
    assert all(far(found[row], plain[row]) > 1e-4 for row in range(2 * FRAMES) if row not in still)
    assert torch.equal(drawn("0: 0.5, -1: 0.5 * @0: 1"), drawn(0.5))
    with pytest.raises(MotionError, match="12 is not in a clip of 10 frames"):
        drawn("12: 1")
