from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from motion.models.motion import temporal
from motion.models.motion.architecture import Architecture, Slot
from motion.models.motion.model import MotionModel
from motion.models.motion.temporal import GRID_LIMIT, TemporalTransformer
from tests.support.small import far


def random_layer(channels: int = 32, norm_over_frames: bool = False) -> TemporalTransformer:
    layer = TemporalTransformer(Slot("slot", channels), norm_over_frames)
    nn.init.normal_(layer.proj_out.weight, std=0.2)
    return layer.eval().requires_grad_(False)


def test_a_new_layer_is_the_identity() -> None:
    x = torch.randn(8, 32, 4, 6)
    assert torch.equal(TemporalTransformer(Slot("slot", 32), False)(x, 4), x)


@pytest.mark.parametrize("norm_over_frames", [False, True])
def test_groups_do_not_see_each_other(norm_over_frames: bool) -> None:
    layer, x = random_layer(norm_over_frames=norm_over_frames).double(), torch.randn(12, 32, 4, 6).double()
    separate = torch.cat([layer(group, 4) for group in x.split(4)])
    assert far(layer(x, 4), separate) <= 1e-9


def test_positions_of_the_picture_do_not_see_each_other_beyond_the_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = random_layer().double(), torch.randn(8, 32, 4, 6).double()
    whole = layer(x, 4)
    monkeypatch.setitem(temporal.PART, "cpu", 4 * 32 * 5)  # five positions at a time: no divisor of 48
    assert far(layer(x, 4), whole) <= 1e-9


def test_frames_see_each_other_and_know_their_order() -> None:
    layer, x = random_layer(), torch.randn(4, 32, 4, 6)
    assert not torch.allclose(layer(x, 4)[:2], layer(x[:2], 2), atol=1e-3)
    assert not torch.allclose(layer(x.flip(0), 4), layer(x, 4).flip(0), atol=1e-3)


def test_scale_multiplies_what_the_layer_adds() -> None:
    layer, x = random_layer().double(), torch.randn(4, 32, 4, 6).double()
    assert far(layer(x, 4, effect=0.3) - x, 0.3 * (layer(x, 4) - x)) <= 1e-9


def test_the_memory_format_is_kept() -> None:
    layer, x = random_layer().double(), torch.randn(4, 32, 4, 6).double()
    assert layer(x, 4).is_contiguous()
    last = x.contiguous(memory_format=torch.channels_last)
    assert far(layer(last, 4), layer(x, 4)) <= 1e-9


def test_a_large_clip_stays_under_the_grid_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        seen.append(q.shape[0] * q.shape[1])
        return torch.empty_like(q)

    monkeypatch.setattr(F, "scaled_dot_product_attention", attention)
    layer = TemporalTransformer(Slot("slot", 320), False).to("meta")
    layer(torch.empty(2 * 32, 320, 128, 128, device="meta"), 32)  # 1024 x 1024 px, cond and uncond
    assert max(seen) <= GRID_LIMIT
    assert sum(seen) == 2 * 128 * 128 * 8 * 2  # groups, positions, heads, attention blocks


def test_the_state_dict_has_the_names_of_the_files(v3: MotionModel) -> None:
    state = v3.state_dict()
    assert (
        "up_blocks.3.motion_modules.2.temporal_transformer.transformer_blocks.0.attention_blocks.1.to_q.weight" in state
    )
    assert not [name for name in state if "to_qkv" in name]
    again = MotionModel(v3.architecture)
    again.load_state_dict(state)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in state.items())


@pytest.mark.parametrize("part", ["to_k.weight", "to_out.0.bias", "pos_encoder.pe"])
def test_loading_is_strict(v3: MotionModel, part: str) -> None:
    name = f"down_blocks.1.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.{part}"
    state = dict(v3.state_dict())
    with pytest.raises(RuntimeError, match=f'(?s)Missing key.*"{name}"'):
        MotionModel.from_state(v3.architecture, {key: value for key, value in state.items() if key != name})
    with pytest.raises(RuntimeError, match=f'Unexpected key.*"{name}2"'):
        MotionModel.from_state(v3.architecture, {**state, f"{name}2": state[name]})


def test_a_file_without_position_tables_gets_the_sinusoid(v3: MotionModel) -> None:
    architecture = Architecture.of_unet("animatelcm", (32, 32, 64, 64), positions=None)
    state = {name: value for name, value in v3.state_dict().items() if not name.endswith(".pe")}
    model = MotionModel.from_state(architecture, state)
    tables = dict(model.named_buffers())
    assert len(tables) == 40
    for name, table in tables.items():
        assert table.shape[1] == 64
        # The authors' files carry the same sinusoid.
        torch.testing.assert_close(table[:, :32], v3.get_buffer(name), rtol=0, atol=1e-5)
