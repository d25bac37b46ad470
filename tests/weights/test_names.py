"""Renaming loses nothing, invents nothing, and names what it does not know."""

from __future__ import annotations

import pytest
import torch

from motion.errors import MotionError
from motion.weights.formats.names import SLOTS, TABLES, to_canonical, to_diffusers


@pytest.mark.parametrize("positions", [None, 32])
@pytest.mark.parametrize("mid", [False, True])
def test_to_diffusers_and_back_is_lossless(module, positions, mid):
    state = module(positions=positions, mid=mid)
    back = to_canonical(to_diffusers(state), "diffusers")
    assert back.keys() == state.keys()
    assert all(back[key] is state[key] or torch.equal(back[key], state[key]) for key in state)


def test_diffusers_names_are_those_of_its_motion_adapter(module):
    diffusers = pytest.importorskip("diffusers")
    adapter = diffusers.MotionAdapter(
        block_out_channels=(32,) * 4, motion_layers_per_block=1, motion_num_attention_heads=8, use_motion_mid_block=True
    )
    renamed = to_diffusers(module(mid=True))
    # The adapter has no layer count of its own for the way up (one more than down).
    assert {key: tensor.shape for key, tensor in adapter.state_dict().items()} == {
        key: tensor.shape for key, tensor in renamed.items()
    }


def test_names_in_the_authors_layout_stay(module):
    state = module()
    assert to_canonical(state, "authors") == state


def test_every_layout_reaches_every_name_of_the_authors():
    for layout, table in TABLES.items():
        reached = set()
        for targets in table.values():
            reached |= {targets} if isinstance(targets, str) else set(targets or ())
        literal = {name.replace("{a}", index) for name in TABLES["authors"] for index in "01"}
        assert {name.replace("{a}", index) for name in reached for index in "01"} == literal, layout


def test_hotshot_names():
    name = "up_blocks.2.temporal_attentions.1.transformer_blocks.0.attention_blocks.1.pos_encoder.positional_encoding"
    prefix = "up_blocks.2.motion_modules.1.temporal_transformer.transformer_blocks.0."
    table = torch.ones(1, 24, 32)
    assert list(to_canonical({name: table}, "hotshot")) == [prefix + "attention_blocks.1.pos_encoder.pe"]


@pytest.mark.parametrize("layout", SLOTS)
def test_an_unknown_key_is_named(layout):
    slot = SLOTS[layout].format(block="down_blocks.0", n=0)
    for key in (slot + "norm.scale", slot + "proj_in.weight.extra", "side_blocks.0.norm.weight"):
        with pytest.raises(MotionError, match=key):
            to_canonical({key: torch.ones(1)}, layout)


def test_two_position_tables_that_differ_do_not_fit_into_one(module):
    state = module()
    key = next(key for key in state if key.endswith("attention_blocks.1.pos_encoder.pe"))
    state[key] = state[key] + 1
    with pytest.raises(MotionError, match="differs from its twin"):
        to_diffusers(state)
