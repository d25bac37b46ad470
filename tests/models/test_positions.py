"""Position tables that are cut, stretched or begin later, and what that leaves of a module."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import motion
from motion.models.motion.positions import Positions
from motion.models.motion.stand_ins import with_positions
from motion.models.motion.temporal import sinusoid
from tests.support.small import batch, far, random_model, run

ROWS = 16


def test_rows_are_cut_stretched_and_left_out_in_this_order() -> None:
    table = torch.arange(6.0)[None, :, None]
    assert Positions(cap=4).of_table(table).flatten().tolist() == [0, 1, 2, 3]
    assert Positions(cap=3, length=6).of_table(table).flatten().tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2]
    assert Positions(cap=3, length=6, offset=2).of_table(table).flatten().tolist() == [0.75, 1.25, 1.75, 2]
    for change in (Positions(4), Positions(3, 6), Positions(3, 6, 2), Positions(9)):
        assert change.of_table(table).shape[1] == change.rows(6)


def test_a_table_of_halves_keeps_its_kind() -> None:
    assert Positions(length=9).of_table(sinusoid(6, 8).half()).dtype == torch.float16


def test_a_layer_shares_all_but_its_tables() -> None:
    layer = next(iter(random_model(positions=ROWS).slots.values()))
    other = with_positions(layer, Positions(length=24))
    assert {id(one) for one in other.parameters()} == {id(one) for one in layer.parameters()}
    assert {table.shape[1] for table in other.buffers()} == {24}
    assert {table.shape[1] for table in layer.buffers()} == {ROWS}


@pytest.mark.usefixtures("inference")
def test_a_module_reaches_as_far_as_its_table_and_off_is_bit_equal(host: nn.Module) -> None:
    model, inputs = random_model(positions=ROWS), batch(4, size=(8, 8))
    with motion.attach(host, model, 4):
        plain = run(host, inputs)
    for same in (Positions(), Positions(length=ROWS), Positions(cap=ROWS), Positions(cap=4)):
        with motion.attach(host, model, 4, positions=same):
            assert torch.equal(run(host, inputs), plain)
    with motion.attach(host, model, 4, positions=Positions(offset=3)):
        assert far(run(host, inputs), plain) > 1e-4
    with motion.attach(host, model, 20, positions=Positions(length=20)):
        assert run(host, batch(20, size=(8, 8))).isfinite().all()
    with motion.attach(host, model, 4):
        assert torch.equal(run(host, inputs), plain)
    with (
        pytest.raises(motion.MotionError, match="1 to 12"),
        motion.attach(host, model, 16, positions=Positions(cap=12)),
    ):
        pass
