"""LoRAs on an attached UNet: what they compute, that they add up, and that nothing is left of them."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import motion
from motion.errors import MotionError
from motion.models import sites
from motion.models.motion.model import MotionModel
from motion.models.motion.stand_ins import stand_ins
from motion.sampling.casting import copied
from motion.weights.formats.lora import Lora
from motion.weights.formats.pairs import Pair
from tests.support import small
from tests.support.small import far, random_model, random_pair, run

FRAMES = 2
pytestmark = pytest.mark.usefixtures("inference")
batch = partial(small.batch, FRAMES, 2)
ATTENTION = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
BLOCK = "transformer_blocks.0.attention_blocks"


def motion_lora(model: MotionModel, seed: int = 1, **metadata: str) -> Lora:
    """Random pairs for the projections of all temporal attention, and one for a feed-forward."""
    torch.manual_seed(seed)
    pairs = {}
    for name, layer in model.slots.items():
        channels = layer.proj_in.in_features
        for attention in (0, 1):
            for part in ("to_q", "to_k", "to_v", "to_out.0"):
                pairs[f"{name}.temporal_transformer.{BLOCK}.{attention}.{part}"] = random_pair(channels, channels)
    pairs["up_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.ff.net.2"] = random_pair(64, 256)
    return Lora(f"motion {seed}", "motion", pairs, metadata)


def only(lora: Lora, *blocks: str) -> Lora:
    """What of the LoRA lies in these blocks."""
    return replace(lora, pairs={name: pair for name, pair in lora.pairs.items() if name.startswith(blocks)})


def adapter(unet: nn.Module, seed: int = 1) -> Lora:
    torch.manual_seed(seed)
    layers = sorted(sites.attention_layers(unet).items())
    pairs = {name: random_pair(layer.out_features, layer.in_features) for name, layer in layers}  # type: ignore[arg-type]
    return Lora(f"adapter {seed}", "image", pairs, {})


def drawn(unet: nn.Module, model: MotionModel, *loras: tuple[Lora, float]) -> Tensor:
    with motion.attach(unet, model, FRAMES), motion.lora.attach(unet, model, loras):
        return run(unet, batch())


def everything(module: nn.Module) -> dict[str, Any]:
    """By identity every module, attribute and entry of a table, and a copy of every number."""
    seen: dict[str, Any] = {}
    for name, part in module.named_modules():
        for attribute, value in vars(part).items():
            contents = [(key, id(item)) for key, item in value.items()] if isinstance(value, dict) else None
            seen[f"{name}:{attribute}"] = (id(value), contents)
    return seen | {f"state:{name}": value.clone() for name, value in module.state_dict().items()}


def same(before: dict[str, Any], after: dict[str, Any]) -> bool:
    return before.keys() == after.keys() and all(
        torch.equal(value, after[name]) if isinstance(value, Tensor) else value == after[name]
        for name, value in before.items()
    )


def by_hand(model: MotionModel, loras: list[tuple[Lora, float]]) -> MotionModel:
    """A copy of the model whose matrices are W + weight * scale * up @ down, by their names in the files."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for lora, weight in loras:
        for name, (down, up, scale) in ((name, vars(pair).values()) for name, pair in lora.pairs.items()):
            state[f"{name}.weight"] += weight * scale * torch.einsum("or,ri->oi", up, down)
    return MotionModel.from_state(model.architecture, state)


def test_motion_loras_are_the_sum_of_their_products(precise: nn.Module) -> None:
    model = random_model().double()
    loras = [(motion_lora(model, 1), 0.8), (motion_lora(model, 2), -0.5)]
    with motion.attach(precise, by_hand(model, loras), FRAMES):
        expected = run(precise, batch())
    assert far(drawn(precise, model, *loras), expected) <= 1e-6
    assert far(drawn(precise, model), expected) > 1e-2


def test_the_adapter_is_its_product_in_every_attention(precise: nn.Module) -> None:
    model, lora = random_model().double(), adapter(precise)
    assert len(lora.pairs) == 16 * 8
    changed = copy.deepcopy(precise)
    for name, layer in sites.attention_layers(changed).items():
        down, up, scale = vars(lora.pairs[name]).values()
        layer.weight += 0.7 * scale * torch.einsum("or,ri->oi", up, down)  # type: ignore[operator]
    with motion.attach(changed, model, FRAMES):
        expected = run(changed, batch())
    assert far(drawn(precise, model, (lora, 0.7)), expected) <= 1e-6
    assert far(drawn(precise, model), expected) > 1e-2


def test_a_layer_in_float32_is_right_to_its_rounding(unet: nn.Module) -> None:
    model = random_model()
    lora, look = motion_lora(model), adapter(unet)
    x, layer, pair = torch.randn(5, 32), unet.get_submodule(ATTENTION), look.pairs[ATTENTION]
    with motion.lora.attach(unet, model, [(lora, 0.8), (look, 0.7)]):
        merged = {
            f"{name}.temporal_transformer.{key}": tensor
            for name, own in model.slots.items()
            for key, tensor in stand_ins(unet)[own].state_dict().items()
        }
        output = layer(x)
    expected = by_hand(model, [(lora, 0.8)]).state_dict()
    assert all((merged[name] - expected[name]).norm() <= 1e-6 * expected[name].norm() for name in merged)
    weight = layer.weight.double() + 0.7 * pair.scale * pair.up.double() @ pair.down.double()  # type: ignore[operator]
    assert far(output.double(), x.double() @ weight.T) <= 1e-6


def test_matrices_in_eight_bits_keep_theirs_and_are_given_the_product(unet: nn.Module) -> None:
    """To a part of a rounding step of theirs it would add nothing."""
    stored = copied(random_model(), torch.device("cpu"), torch.float32, torch.float8_e4m3fn)
    rounded, lora = copied(stored, torch.device("cpu"), torch.float32), motion_lora(stored)
    loras = [(lora, 0.01), (motion_lora(stored, 2), -0.5)]
    assert far(drawn(unet, stored, *loras), drawn(unet, by_hand(rounded, loras))) < 1e-5
    assert torch.equal(drawn(unet, stored), drawn(unet, rounded))


def test_both_layouts_name_the_same_layers(unet: nn.Module, ldm_unet: nn.Module) -> None:
    in_diffusers, in_ldm = sites.attention_layers(unet), sites.attention_layers(ldm_unet)
    assert in_diffusers.keys() == in_ldm.keys()
    assert all(unet.get_submodule(name) is layer for name, layer in in_diffusers.items())
    assert all(torch.equal(layer.weight, in_ldm[name].weight) for name, layer in in_diffusers.items())  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_nothing_is_left(host: nn.Module, error: type[BaseException] | None) -> None:
    model, inputs = random_model(), batch()
    plain, before = run(host, inputs), (everything(host), everything(model))
    loras = [(motion_lora(model), 0.8), (adapter(host), 0.5)]
    try:
        with motion.attach(host, model, FRAMES), motion.lora.attach(host, model, loras):
            run(host, inputs)
            assert not same(everything(host), before[0]) and same(everything(model), before[1])
            if error is not None:
                raise error
    except BaseException as raised:
        assert type(raised) is error
    assert same(everything(host), before[0]) and same(everything(model), before[1])
    assert torch.equal(run(host, inputs), plain)


def test_weight_zero_is_bit_equal_to_none(host: nn.Module) -> None:
    model = random_model()
    assert torch.equal(drawn(host, model, (motion_lora(model), 0), (adapter(host), 0.0)), drawn(host, model))


def test_an_untrained_lora_is_bit_equal_to_none(host: nn.Module) -> None:
    model = random_model()
    loras = [motion_lora(model), adapter(host)]
    for lora in loras:
        for pair in lora.pairs.values():
            pair.up.zero_()
    assert torch.equal(drawn(host, model, *((lora, 1.0) for lora in loras)), drawn(host, model))


def test_two_add_up_in_either_order(precise: nn.Module) -> None:
    host, model = precise, random_model().double()
    first, second = (motion_lora(model, 1), 0.8), (motion_lora(model, 2), 0.6)
    assert torch.equal(drawn(host, model, first, second), drawn(host, model, second, first))
    halves = [(motion_lora(model, 1), 0.3), (motion_lora(model, 1), 0.5)]
    assert far(drawn(host, model, *halves), drawn(host, model, first)) <= 1e-6
    one, other = (adapter(host, 1), 0.4), (adapter(host, 2), 0.6)
    assert far(drawn(host, model, one, other), drawn(host, model, other, one)) <= 1e-6
    together = drawn(host, model, first, one, second, other)
    with motion.lora.attach(host, model, [first, one]):
        assert far(drawn(host, model, second, other), together) <= 1e-6


def test_a_scope_that_begins_later_is_seen_by_layers_that_run_as_copies(unet: nn.Module) -> None:
    """Layers of another dtype than the data are copied at their first run; the LoRA comes after it and goes."""
    model, inputs = random_model().double(), batch()
    lora = motion_lora(model)
    with motion.attach(unet, model, FRAMES):
        plain = run(unet, inputs)
        with motion.lora.attach(unet, model, [(lora, 0.8)]):
            changed = run(unet, inputs)
        assert torch.equal(run(unet, inputs), plain)
    assert torch.equal(changed, drawn(unet, model, (lora, 0.8))) and not torch.equal(changed, plain)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_a_module_in_eight_bits_is_changed_as_its_own_numbers_are(unet: nn.Module, dtype: torch.dtype) -> None:
    model = random_model().to(dtype)
    lora = motion_lora(model)
    assert torch.equal(drawn(unet, model, (lora, 0.8)), drawn(unet, copy.deepcopy(model).float(), (lora, 0.8)))
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_two_jobs_share_a_module_and_not_its_loras(unet: nn.Module, dtype: torch.dtype) -> None:
    """Each in a thread of its own, at every call with what the other has attached."""
    model, unets = random_model(), [copy.deepcopy(unet).to(dtype) for _ in range(2)]
    jobs: list[tuple[tuple[Lora, float], ...]] = [(), ((motion_lora(model), 0.8),)]
    alone = [drawn(unet, model, *loras) for unet, loras in zip(unets, jobs, strict=True)]
    meet = threading.Barrier(len(jobs))

    def job(unet: nn.Module, loras: tuple[tuple[Lora, float], ...]) -> Tensor:
        with torch.inference_mode(), motion.attach(unet, model, FRAMES), motion.lora.attach(unet, model, loras):
            meet.wait()
            found = run(unet, batch())
            meet.wait()
        return found

    with ThreadPoolExecutor() as threads:
        together = list(threads.map(job, unets, jobs))
    assert all(map(torch.equal, together, alone)) and not torch.equal(*together)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_host_of_another_dtype(unet: nn.Module, dtype: torch.dtype) -> None:
    model = random_model()
    loras = [(motion_lora(model), 0.8), (adapter(unet), 0.5)]
    expected = drawn(unet, model, *loras)
    half = copy.deepcopy(unet).to(dtype)
    with torch.inference_mode(), motion.attach(half, model, FRAMES), motion.lora.attach(half, model, loras):
        output = run(half, batch())
    assert output.dtype == dtype
    assert far(output.float(), expected) < 0.1
    assert all(pair.up.dtype == torch.float32 for lora, _ in loras for pair in lora.pairs.values())


def test_a_hosts_own_loras_work_beside_it(precise: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """AUTOMATIC1111 replaces `torch.nn.Linear.forward` and patches weights in place at the first run."""
    unet, model, lora = precise, random_model().double(), adapter(precise)
    own, patched = torch.randn(32, 32).double() / 32, sites.attention_layers(unet)[ATTENTION]

    def forward(self: nn.Linear, x: Tensor) -> Tensor:
        weight = self.weight + own if self is patched else self.weight
        return F.linear(x, weight, self.bias)

    with monkeypatch.context() as patch:
        patch.setattr(nn.Linear, "forward", forward)
        host_alone = drawn(unet, model)
        both = drawn(unet, model, (lora, 0.7))
    pair = lora.pairs[ATTENTION]
    merged = Lora("both", "image", {**lora.pairs}, {})
    merged.pairs[ATTENTION] = Pair(  # type: ignore[index]
        torch.cat([pair.down.double(), torch.eye(32)]), torch.cat([pair.scale * pair.up, own / 0.7], dim=1)
    )
    assert far(both, drawn(unet, model, (merged, 0.7))) <= 1e-6
    assert far(host_alone, drawn(unet, model)) > 1e-4


def test_gradients_reach_the_lora_and_nothing_else(unet: nn.Module) -> None:
    model = random_model()
    for lora in (motion_lora(model), adapter(unet)):
        for pair in lora.pairs.values():
            pair.down.requires_grad_(), pair.up.requires_grad_()
        with (
            torch.enable_grad(),
            motion.attach(unet, model, FRAMES),
            motion.lora.attach(unet, model, [(lora, 1.0)]),
        ):
            run(unet, batch()).square().mean().backward()
        assert all(p.down.grad.any() and p.up.grad.any() for p in lora.pairs.values())  # type: ignore[union-attr]
        assert all(parameter.grad is None for part in (unet, model) for parameter in part.parameters())


def test_a_lora_for_another_module_is_refused_and_nothing_is_left(host: nn.Module) -> None:
    v3, v2 = random_model(), random_model("v2", mid=True)
    before = everything(host), everything(v3)
    narrow = Lora("narrow", "image", {next(iter(adapter(host).pairs)): random_pair(16, 16)}, {})
    elsewhere = Lora(
        "elsewhere", "image", {"up_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": random_pair(8, 8)}, {}
    )
    for lora, words in (
        (replace(only(motion_lora(v2), "mid_block"), name="mid"), "mid does not fit this v3 motion module.* mid_block"),
        (motion_lora(v3, **{"motion.family": "v2"}), "trained on a v2 motion module and does not fit this v3"),
        (narrow, "adapter narrow does not fit this checkpoint.*down_blocks"),
        (elsewhere, "adapter elsewhere does not fit"),
    ):
        with pytest.raises(MotionError, match=words):
            drawn(host, v3, (motion_lora(v3), 1.0), (adapter(host), 1.0), (lora, 0.5))
        drawn(host, v3, (lora, 0))
    with pytest.raises(MotionError, match="is a motion LoRA: give the motion module"):
        motion.lora.attach(host, None, [(motion_lora(v3), 1.0)]).__enter__()
    assert same(everything(host), before[0]) and same(everything(v3), before[1])


@pytest.mark.parametrize("family", ["v1", "v3"])
@pytest.mark.parametrize("hint", [{}, {"motion.family": "v2"}])
def test_a_lora_for_a_middle_block_goes_without_it_and_says_so(
    unet: nn.Module, family: str, hint: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    model, lora = random_model(family), motion_lora(random_model("v2", mid=True), **hint)
    rest = replace(only(lora, "down_blocks", "up_blocks"), metadata={})
    expected = drawn(unet, model, (rest, 0.8))
    assert not caplog.messages
    assert torch.equal(drawn(unet, model, (lora, 0.8)), expected)
    assert caplog.messages == motion.lora.notes(model, [(lora, 0.8)]) and "middle block" in caplog.text
    assert motion.lora.notes(model, [(lora, 0), (rest, 1.0)]) == motion.lora.notes(None, [(lora, 1.0)]) == []


def test_rearranged_frames_do_not_matter_to_the_adapter(precise: nn.Module) -> None:
    """It is an image LoRA: every frame is changed as a picture of its own."""
    (x, t, c), lora = batch(), adapter(precise)
    with motion.lora.attach(precise, None, [(lora, 1.0)]):
        whole = run(precise, (x, t, c))
        single = torch.cat([run(precise, (x[i : i + 1], t[:1], c[i : i + 1])) for i in range(len(x))])
    assert far(whole, single) <= 1e-9
