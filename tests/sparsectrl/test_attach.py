"""`sparsectrl.attach`: what it changes while it lasts, what it does not, and that nothing is left of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import motion
import sparsectrl
from motion.errors import MotionError
from motion.models.motion.architecture import Architecture
from motion.models.motion.model import MotionModel
from motion.models.motion.temporal import TemporalTransformer
from motion.sampling.animation import attach_windows
from motion.sampling.arrangement import Arrangement
from motion.sampling.windows import Windows
from sparsectrl.effect import Influence
from sparsectrl.encoder import Embedding, SparseEncoder
from tests.support import small
from tests.support.small import WIDTHS, far, random_encoder, run
from tests.support.trace import ERRORS, check_no_trace, everything

FRAMES = 4
pytestmark = pytest.mark.usefixtures("inference")
batch = partial(small.batch, FRAMES)
keyed = partial(small.keyed, clip=FRAMES)


@pytest.mark.parametrize("error", ERRORS)
def test_nothing_is_left(host: nn.Module, error: type[BaseException] | None) -> None:
    check_no_trace(host, batch(), lambda: sparsectrl.attach(host, random_encoder(), keyed(0), FRAMES), error)


def untrained() -> SparseEncoder:
    encoder = random_encoder()
    for zero in (*encoder.controlnet_down_blocks, encoder.controlnet_mid_block):
        nn.init.zeros_(zero.weight)
        nn.init.zeros_(zero.bias)
    return encoder


@pytest.mark.parametrize(
    ("encoder", "condition", "influence", "reason"),
    [
        (untrained, keyed(0), Influence(), "all its residuals are zero"),
        (random_encoder, keyed(0), Influence(scale=0), "its scale is 0"),
        (random_encoder, keyed(0), Influence(on_keys=0, off_keys=0), "its scale is 0"),
        (random_encoder, keyed(0), Influence(blocks=[0.0] * 13), "its scale is 0"),
        (random_encoder, keyed(), Influence(), "no frame has a key"),
        (random_encoder, keyed(0), Influence(start=0.8), "no step lies in 0.8 to 1"),
    ],
)
def test_a_control_that_does_nothing_is_bit_equal_to_none_and_says_why(
    host: nn.Module, encoder: Callable[[], SparseEncoder], condition: Tensor, influence: Influence, reason: str
) -> None:
    inputs = batch()
    plain = run(host, inputs)
    with sparsectrl.attach(host, encoder(), condition, FRAMES, influence=influence) as effect:
        assert torch.equal(run(host, inputs), plain)
    assert effect.strength == 0
    with pytest.raises(MotionError, match=reason):
        effect.check()


def test_the_effect_tells_keys_passes_and_strength(unet: nn.Module) -> None:
    encoder = random_encoder()
    strengths = []
    for scale in (0.5, 1.0):
        with sparsectrl.attach(unet, encoder, keyed(0, -1), FRAMES, scale) as effect:
            run(unet, batch())
            run(unet, batch())
        effect.check()
        assert (effect.keys, effect.passes) == ((0, FRAMES - 1), 2)
        strengths.append(effect.strength)
    assert 0 < strengths[0] < strengths[1]


def test_residuals_that_are_not_finite_are_told(unet: nn.Module) -> None:
    encoder = random_encoder()
    encoder.controlnet_mid_block.weight.fill_(torch.nan)
    with sparsectrl.attach(unet, encoder, keyed(0), FRAMES) as effect:
        run(unet, batch())
    with pytest.raises(MotionError, match="NaN: its file holds weights that are no numbers"):
        effect.check()
    effect.note(torch.full((1,), torch.inf, dtype=torch.float16), torch.ones(1))
    with pytest.raises(MotionError, match="NaN: compute in float32 or bfloat16"):
        effect.check()


@pytest.mark.parametrize("other", [7.0, float("nan")])
def test_what_an_image_shows_where_its_mask_is_0_does_not_matter(host: nn.Module, other: float) -> None:
    condition, inputs, encoder = keyed(1), batch(), random_encoder()
    changed = torch.where(condition[:, -1:] == 0, other, condition)
    changed[:, -1] = condition[:, -1]
    outputs = []
    for shown in (condition, changed):
        with sparsectrl.attach(host, encoder, shown, FRAMES):
            outputs.append(run(host, inputs))
    assert torch.equal(*outputs)


def test_any_number_of_groups(host: nn.Module) -> None:
    inputs = batch(groups=3)
    with sparsectrl.attach(host, random_encoder(), keyed(0, 2), FRAMES):
        together = run(host, inputs)
        apart = [run(host, part) for part in zip(*(tensor.split(FRAMES) for tensor in inputs), strict=True)]
    assert far(together, torch.cat(apart)) <= 1e-5


def test_encoders_and_a_motion_module_in_any_order(host: nn.Module) -> None:
    inputs, before = batch(), everything(host)
    model = MotionModel(Architecture.of_unet("v1", WIDTHS)).eval().requires_grad_(False)
    for layer in model.slots.values():
        nn.init.normal_(layer.proj_out.weight, std=0.1)
    rgb, scribble = random_encoder(), random_encoder(condition=3, embedding=(16, 32, 32, 32))
    pixels = keyed(2, size=(64, 128), channels=3)

    def scopes() -> list[Any]:
        return [
            motion.attach(host, model, FRAMES, arrangement=Arrangement(Windows(FRAMES))),
            sparsectrl.attach(host, rgb, keyed(0), FRAMES),
            sparsectrl.attach(host, scribble, pixels, FRAMES, scale=0.5),
        ]

    outputs = []
    for order in ((0, 1, 2), (1, 0, 2), (2, 1, 0)):
        with ExitStack() as stack:
            for scope in order:
                stack.enter_context(scopes()[scope])
            outputs.append(run(host, inputs))
        assert everything(host) == before
    for output in outputs[1:]:
        assert far(output, outputs[0]) <= 1e-5
    with sparsectrl.attach(host, rgb, keyed(0), FRAMES):
        assert not torch.allclose(run(host, inputs), outputs[0], atol=1e-2)


def test_scale_and_multipliers_are_linear(unet: nn.Module) -> None:
    """Residuals of all frames at 0.5 are those on keys at 0.5 and those off keys at 0.5 together."""
    encoder, inputs, found = random_encoder(), batch(), {}
    cases = {
        "scale": Influence(0.5),
        "both": Influence(on_keys=0.5, off_keys=0.5),
        "on": Influence(on_keys=0.5, off_keys=0),
        "off": Influence(on_keys=0, off_keys=0.5),
    }
    middle = unet.get_submodule("mid_block")
    for name, influence in cases.items():
        with sparsectrl.attach(unet, encoder, keyed(1), FRAMES, influence=influence):
            hook = middle.register_forward_hook(lambda _, args, output, name=name: found.update({name: output}))
            run(unet, inputs)
            hook.remove()
    assert torch.equal(found["scale"], found["both"])
    keyless = torch.arange(FRAMES) != 1
    assert torch.equal(found["on"][~keyless], found["both"][~keyless])
    assert torch.equal(found["off"][keyless], found["both"][keyless])
    assert not torch.allclose(found["on"][keyless], found["both"][keyless], atol=1e-3)


def outputs(unet: nn.Module, encoder: SparseEncoder, condition: Tensor, influence: Influence) -> tuple[Tensor, Tensor]:
    """Of the UNet's middle block and of the UNet."""
    middle: list[Tensor] = []
    with sparsectrl.attach(unet, encoder, condition, FRAMES, influence=influence):
        hook = unet.get_submodule("mid_block").register_forward_hook(lambda *args: middle.append(args[-1]))
        whole = run(unet, batch())
        hook.remove()
    return middle[0], whole


def test_each_block_has_a_factor(unet: nn.Module) -> None:
    encoder = random_encoder()
    count = len(encoder.shape.outputs) + 1
    drawn = partial(outputs, unet, encoder, keyed(1))
    half, halves = drawn(Influence(0.5)), drawn(Influence(blocks=[0.5] * count))
    assert all(far(found, wanted) <= 1e-6 for found, wanted in zip(halves, half, strict=True))
    plain, full = drawn(Influence(0)), drawn(Influence())
    deepest = drawn(Influence(blocks=[0] * (count - 1) + [1]))
    assert torch.equal(deepest[0], full[0]) and far(deepest[1], full[1]) > 1e-3
    others = drawn(Influence(blocks=[1] * (count - 1) + [0]))
    assert torch.equal(others[0], plain[0]) and far(others[1], plain[1]) > 1e-3
    with pytest.raises(MotionError, match=f"3 key frame blocks for a SparseCtrl encoder of {count}"):
        drawn(Influence(blocks=[1] * 3))


def test_without_its_motion_frames_do_not_see_each_others_keys(unet: nn.Module) -> None:
    encoder, other = random_encoder(), keyed(0)
    for layer in encoder.modules():
        if isinstance(layer, TemporalTransformer):
            nn.init.normal_(layer.proj_out.weight, std=0.2)
    other[0, :-1] += 1
    for strength, apart in ((1.0, False), (0.5, False), (0.0, True)):
        how = Influence(motion=strength)
        first, second = (outputs(unet, encoder, shown, how)[0] for shown in (keyed(0), other))
        assert far(second[:1], first[:1]) > 1e-4
        assert torch.equal(second[1:], first[1:]) == apart


@pytest.mark.parametrize(
    ("t", "start", "end", "acts"),
    [(999, 0, 0, True), (999, 0.3, 0.7, False), (600, 0.3, 0.7, True), (400, 0.3, 0.7, True), (1, 0.3, 0.7, False)],
)
def test_it_acts_from_start_to_end(unet: nn.Module, t: int, start: float, end: float, acts: bool) -> None:
    x, _, c = batch()
    influence = Influence(start=start, end=end)
    for step in (torch.tensor(t), t):
        with sparsectrl.attach(unet, random_encoder(), keyed(0), FRAMES, influence=influence) as effect:
            unet(x, step, c)
        assert bool(effect.passes) == acts


def test_the_encoder_follows_the_data(unet: nn.Module) -> None:
    encoder, (x, t, c) = random_encoder(), batch()
    with sparsectrl.attach(unet, encoder, keyed(0), FRAMES):
        expected = run(unet, (x, t, c))
    half = copy.deepcopy(unet).bfloat16()
    with sparsectrl.attach(half, encoder, keyed(0), FRAMES), torch.inference_mode():
        output = run(half, (x.bfloat16(), t, c.bfloat16()))
    assert output.dtype == torch.bfloat16
    assert far(output.float(), expected) < 0.1
    with sparsectrl.attach(unet, encoder, keyed(0), FRAMES), torch.autocast("cpu", torch.bfloat16):
        output = run(unet, (x, t, c))
    assert far(output.float(), expected) < 0.1
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_training_reaches_every_parameter_of_the_encoder_and_none_of_the_unet(
    unet: nn.Module, dtype: torch.dtype
) -> None:
    encoder = random_encoder().to(dtype).train().requires_grad_(True)
    with torch.enable_grad(), sparsectrl.attach(unet, encoder, keyed(0), FRAMES):
        run(unet, batch()).square().mean().backward()
    blind = {"conv_in.weight"}  # it only meets zeros
    assert {name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()} == blind
    assert all(p.grad is None for p in unet.parameters())


@pytest.mark.parametrize(
    ("encoder", "condition", "frames", "words"),
    [
        (
            {"widths": (32, 64, 64, 64)},
            keyed(0),
            FRAMES,
            r"channels 32/64/64/64 in 8.*this checkpoint.*32/32/64/64 in 8",
        ),
        ({"positions": 2}, keyed(0), FRAMES, "4 frames do not fit.*1 to 2"),
        ({}, keyed(0, clip=64), 64, "64 frames do not fit.*1 to 32"),
        ({}, keyed(0, clip=16), FRAMES, "the condition has 16 frames and the clip 4"),
        ({}, keyed(0, channels=3), FRAMES, "key images have 3 channels.*takes 4 of latents"),
        ({"condition": 3, "embedding": (16, 32)}, keyed(0), FRAMES, "key images have 4 channels.*takes 3 of pixels"),
    ],
)
def test_what_does_not_fit_is_refused_when_attaching(
    host: nn.Module, encoder: dict[str, Any], condition: Tensor, frames: int, words: str
) -> None:
    before = everything(host)
    with (
        pytest.raises(MotionError, match=words),
        sparsectrl.attach(host, random_encoder(**encoder), condition, frames),
    ):
        raise AssertionError("attached")
    assert everything(host) == before


@pytest.mark.parametrize(
    ("encoder", "condition", "rows", "words"),
    [
        ({}, keyed(0), 3, "3 is no multiple of 4"),
        ({}, keyed(0, size=(16, 16)), 4, "key images are 16x16 where the clip needs 16x8"),
        ({"context": 40}, keyed(0), 4, "text has 48 channels.*reads 40"),
    ],
)
def test_what_does_not_fit_a_pass_is_refused_before_it_runs(
    host: nn.Module, encoder: dict[str, Any], condition: Tensor, rows: int, words: str
) -> None:
    ran: list[nn.Module] = []
    hooks = [module.register_forward_pre_hook(lambda module, _: ran.append(module)) for module in host.children()]
    try:
        with (
            sparsectrl.attach(host, random_encoder(**encoder), condition, FRAMES),
            pytest.raises(MotionError, match=words),
        ):
            run(host, tuple(part[:rows] for part in batch()))
    finally:
        for hook in hooks:
            hook.remove()
    assert not ran


@pytest.mark.parametrize("engine", ["denoiser", "attention"])
def test_the_condition_is_embedded_once(unet: nn.Module, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of steps and windows; all frames without a key together."""
    seen: list[int] = []
    embed = Embedding.forward

    def noted(self: Embedding, condition: Tensor) -> Tensor:
        seen.append(len(condition))
        return embed(self, condition)

    monkeypatch.setattr(Embedding, "forward", noted)
    long, arrangement = 10, Arrangement(Windows(10, FRAMES, 1, engine=engine))
    x, t, c = small.batch(long)
    with (
        attach_windows(unet, arrangement),
        sparsectrl.attach(unet, random_encoder(), small.keyed(0, 9, clip=long), long, arrangement=arrangement),
    ):
        for step in (900, 500):
            run(unet, (x, torch.full_like(t, step), c))
    assert seen == [3]
