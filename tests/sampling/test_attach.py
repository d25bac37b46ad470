"""`motion.attach`: what it changes while it lasts, and that nothing is left of it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

import motion
from motion.errors import MotionError
from motion.models.motion.model import MotionModel
from motion.sampling.arrangement import Arrangement
from motion.sampling.casting import CastModule
from motion.sampling.windows import Windows
from tests.support import small
from tests.support.small import far, random_model, rows, run
from tests.support.trace import ERRORS, check_no_trace, everything

FRAMES = 4
pytestmark = pytest.mark.usefixtures("inference")
batch = partial(small.batch, FRAMES)


@pytest.mark.parametrize("family", ["v1", "v3"])
@pytest.mark.parametrize("error", ERRORS)
def test_nothing_is_left(host: nn.Module, family: str, error: type[BaseException] | None) -> None:
    check_no_trace(host, batch(), lambda: motion.attach(host, random_model(family), FRAMES), error)


def test_the_unet_never_owns_the_layers(host: nn.Module) -> None:
    names, modules = list(host.state_dict()), [id(module) for module in host.modules()]
    with motion.attach(host, random_model(), FRAMES):
        assert list(host.state_dict()) == names
        assert [id(module) for module in host.modules()] == modules


@pytest.mark.parametrize("family", ["v1", "v3"])
def test_scale_zero_is_bit_equal_to_plain(host: nn.Module, family: str) -> None:
    inputs = batch()
    plain = run(host, inputs)
    with motion.attach(host, random_model(family), FRAMES, scale=0):
        assert torch.equal(run(host, inputs), plain)


@pytest.mark.parametrize("family", ["v1", "v3"])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_any_number_of_groups(precise: nn.Module, family: str, groups: int) -> None:
    inputs = batch(groups)
    with motion.attach(precise, random_model(family), FRAMES):
        together = run(precise, inputs)
        apart = [run(precise, part) for part in zip(*(tensor.split(FRAMES) for tensor in inputs), strict=True)]
    assert far(together, torch.cat(apart)) <= 1e-9


def test_a_batch_that_does_not_divide_is_refused_before_anything_runs(host: nn.Module) -> None:
    ran: list[nn.Module] = []
    hooks = [module.register_forward_pre_hook(lambda module, _: ran.append(module)) for module in host.children()]
    x, t, c = batch(2)
    try:
        with motion.attach(host, random_model(), FRAMES), pytest.raises(MotionError, match="7 is no multiple of 4"):
            host(x[:7], t[:7], c[:7])
    finally:
        for hook in hooks:
            hook.remove()
    assert not ran


def test_attaching_twice_is_refused_and_the_first_stays(host: nn.Module) -> None:
    inputs, before = batch(), everything(host)
    with motion.attach(host, random_model(), FRAMES):
        moving = run(host, inputs)
        with (
            pytest.raises(MotionError, match="this UNet is already attached"),
            motion.attach(host, random_model(), FRAMES),
        ):
            raise AssertionError("attached twice")
        assert torch.equal(run(host, inputs), moving)
    assert everything(host) == before


def test_scopes_can_follow_each_other(unet: nn.Module) -> None:
    inputs, model = batch(), random_model()
    outputs = []
    for _ in range(2):
        with motion.attach(unet, model, FRAMES):
            outputs.append(run(unet, inputs))
    assert torch.equal(*outputs)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            lambda: random_model("sdxl", (32, 64, 64)),
            r"SDXL, channels 32/64/64 in 15 layers.* this checkpoint \(SD1\.5, channels 32/32/64/64 in 20 layers",
        ),
        (lambda: random_model(widths=(32, 64, 64, 64)), r"v3.*32/64/64/64 in 20 layers.*32/32/64/64 in 20 layers"),
    ],
)
def test_a_model_for_another_unet_is_refused(host: nn.Module, model: Callable[[], MotionModel], words: str) -> None:
    before = everything(host)
    with pytest.raises(MotionError, match=words), motion.attach(host, model(), FRAMES):
        raise AssertionError("attached")
    assert everything(host) == before


@pytest.mark.parametrize("frames", [0, -1, 17])
def test_clips_beyond_the_position_table_are_refused(unet: nn.Module, frames: int) -> None:
    with pytest.raises(MotionError, match=f"{frames} frames.*1 to 16"):
        motion.attach(unet, random_model(positions=16), frames).__enter__()


def test_hooks_of_others_are_left_alone(unet: nn.Module) -> None:
    calls: list[str] = []
    layer = unet.get_submodule("down_blocks.0.attentions.0")
    early = layer.register_forward_hook(lambda *_: calls.append("early"))
    try:
        with motion.attach(unet, random_model(), FRAMES):
            late = layer.register_forward_hook(lambda *_: calls.append("late"))
            run(unet, batch())
        run(unet, batch())
    finally:
        early.remove()
        late.remove()
    assert calls == ["early", "late"] * 2


def test_a_hook_that_somebody_else_removed_is_reported(unet: nn.Module, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), motion.attach(unet, random_model(), FRAMES):
        unet.get_submodule("down_blocks.0.attentions.0")._forward_hooks.clear()
    assert len(caplog.records) == 1
    assert "removed by somebody else" in caplog.text


def test_a_unet_of_another_dtype_leaves_the_model_as_it_is(unet: nn.Module) -> None:
    model, (x, t, c) = random_model(), batch()
    with motion.attach(unet, model, FRAMES):
        expected = run(unet, (x, t, c))
    half = copy.deepcopy(unet).bfloat16()
    with motion.attach(half, model, FRAMES), torch.inference_mode():
        output = run(half, (x.bfloat16(), t, c.bfloat16()))
    assert output.dtype == torch.bfloat16
    assert far(output.float(), expected) < 0.1
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("family", ["v1", "v3"])
def test_autocast(family: str, unet: nn.Module) -> None:
    model, inputs = random_model(family), batch()
    with motion.attach(unet, model, FRAMES):
        expected = run(unet, inputs)
        with torch.autocast("cpu", torch.bfloat16):
            output = run(unet, inputs)
    assert far(output.float(), expected) < 0.1


def test_one_scope_serves_inference_mode_and_gradients(unet: nn.Module) -> None:
    model, (x, t, c) = random_model().double(), batch()  # so that the layers run as copies
    with motion.attach(unet, model, FRAMES):
        with torch.inference_mode():
            expected = run(unet, (x, t, c))
        with torch.enable_grad():
            x.requires_grad_()
            output = run(unet, (x, t, c))
            output.square().mean().backward()
    # Not bit-equal: without gradients another library multiplies the matrices (motion/models/motion/linear.py).
    assert far(output.detach(), expected.clone()) <= 1e-5
    assert x.grad is not None and x.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_training_reaches_every_parameter_of_the_model_and_none_of_the_unet(
    unet: nn.Module, dtype: torch.dtype
) -> None:
    model = random_model("v1").to(dtype).train().requires_grad_(True)
    with torch.enable_grad(), motion.attach(unet, model, FRAMES):
        run(unet, batch()).square().mean().backward()
    assert all(p.grad is not None and p.grad.dtype == dtype and p.grad.any() for p in model.parameters())
    assert all(p.grad is None for p in unet.parameters())


def test_prompts_side_by_side_are_put_into_clips_and_back(host: nn.Module) -> None:
    """Two prompts per frame, side by side, then the frames without one: the same as three whole clips."""
    model, inputs = random_model(), batch(groups=3)
    arrangement = Arrangement(Windows(FRAMES), prompts=2)
    mixed = [row for frame in range(FRAMES) for row in (frame, FRAMES + frame)] + list(range(2 * FRAMES, 3 * FRAMES))
    with motion.attach(host, model, FRAMES):
        whole = run(host, inputs)
    with motion.attach(host, model, FRAMES, arrangement=arrangement):
        side_by_side = run(host, rows(inputs, mixed))
    assert torch.equal(side_by_side, whole[mixed])


def test_a_loop_turns_with_its_frames(host: nn.Module) -> None:
    """Wherever a step begins the loop, each frame's output stays in its row."""
    model, (x, t, c) = random_model(), batch()
    later = x, t - 1, c
    arrangement = Arrangement(Windows(FRAMES, closed=True))
    with motion.attach(host, model, FRAMES):
        plain = run(host, (x, t, c))
    with motion.attach(host, model, FRAMES, arrangement=arrangement):
        assert torch.equal(run(host, (x, t, c)), plain)
        assert torch.equal(run(host, (x, t, c)), plain)  # the negative prompt's call of the same step
        turned = run(host, later)
    order = list(arrangement.together)
    assert order[0]
    with motion.attach(host, model, FRAMES):
        wanted = run(host, rows(later, order))
    assert torch.equal(turned[order], wanted)


def test_layers_run_in_the_dtype_of_the_data_under_autocast() -> None:
    """As AUTOMATIC1111 samples: no norm leaves float32 for the layers behind it to cast again."""
    layer = CastModule(next(iter(random_model().slots.values())).bfloat16())
    x = torch.randn(2 * FRAMES, 32, 4, 4).bfloat16()
    plain = layer(x, FRAMES)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x, FRAMES), plain)


def test_a_copy_is_the_module_in_another_dtype_and_one_piece_of_memory() -> None:
    """So that a device is sent one piece for each layer, not one for each of its matrices."""
    layer = next(iter(random_model().slots.values()))
    follower = CastModule(layer)
    follower(torch.randn(FRAMES, 32, 4, 4).bfloat16(), FRAMES)
    copied = dict(follower._copy.named_parameters()) | dict(follower._copy.named_buffers())
    own = dict(layer.named_parameters()) | dict(layer.named_buffers())
    assert copied.keys() == own.keys() and all(torch.equal(copied[name], own[name].bfloat16()) for name in own)
    assert len({tensor.untyped_storage().data_ptr() for tensor in copied.values()}) == 1
    assert all(type(copied[name]) is type(own[name]) for name in own)
