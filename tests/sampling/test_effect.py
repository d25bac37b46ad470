"""How strongly temporal layers act: nothing where the effect is 0, and what the formulas say elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest
import torch
from torch import Tensor, nn

import motion
from motion.errors import MotionError
from motion.models.motion.temporal import TemporalAttention
from motion.sampling.animation import attach_further
from motion.sampling.arrangement import Arrangement
from motion.sampling.effect import MotionEffect
from motion.sampling.windows import Windows
from tests.support import small
from tests.support.small import far, random_model, run
from tests.support.trace import check_no_trace

FRAMES = 6
ENGINES = {
    "one window": Windows(FRAMES),
    "denoiser": Windows(FRAMES, 4, 2),
    "attention": Windows(FRAMES, 4, 2, engine="attention"),
}
pytestmark = pytest.mark.usefixtures("inference")
batch = partial(small.batch, FRAMES)


def moved(unet: nn.Module, engine: str, inputs: tuple[Tensor, ...] | None = None, **effect: object) -> Tensor:
    arrangement, how = Arrangement(ENGINES[engine]), MotionEffect(frames=FRAMES, **effect)  # type: ignore[arg-type]
    with motion.attach(unet, random_model(), FRAMES, 1.0, arrangement, how):
        return run(unet, inputs or batch(2))


@pytest.fixture(autouse=True)
def same_module() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_frame_without_effect_is_bit_equal_to_a_plain_one(host: nn.Module, engine: str) -> None:
    inputs = batch(2)
    plain, found = moved(host, engine, inputs, effect=0), moved(host, engine, inputs, effect="0-2: 0, 3: 1, 5: 0.5")
    still = [row for row in range(2 * FRAMES) if row % FRAMES < 3]
    moving = [row for row in range(2 * FRAMES) if row % FRAMES >= 3]
    assert torch.equal(found[still], plain[still])
    assert min(far(found[row], plain[row]) for row in moving) > 1e-4


@pytest.mark.parametrize("engine", ENGINES)
def test_a_constant_curve_is_bit_equal_to_the_number(host: nn.Module, engine: str) -> None:
    number = moved(host, engine, effect=0.7, scale=0.5)
    torch.manual_seed(0)
    assert torch.equal(moved(host, engine, effect="0: 0.7, -1: 0.7 * @0: 1", scale="0: 0.5"), number)


def test_steps_are_told_by_the_time_of_the_call(host: nn.Module) -> None:
    x, _, text = batch()
    for time, wanted in ((999, 1.0), (499.5, 0.5), (0, 0.0)):
        t = torch.full((len(x),), time)
        by_curve = moved(host, "one window", (x, t, text), effect="@0: 1, @1: 0")
        torch.manual_seed(0)
        assert torch.equal(by_curve, moved(host, "one window", (x, t, text), effect=wanted))
        torch.manual_seed(0)


def test_blocks_multiply_the_effect(host: nn.Module) -> None:
    inputs = batch()
    found = []
    for effect in ({"effect": 0.0}, {"blocks": {"down": 0.0, "up": 0.0}}, {"blocks": {"down": 0.0, "up.1": "0: 0"}}):
        torch.manual_seed(0)
        found.append(moved(host, "one window", inputs, **effect))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    with pytest.raises(MotionError, match=r"up\.7 is no block with temporal layers here: choose from down, down\.0"):
        moved(host, "one window", blocks={"up.7": 1.0})


@pytest.mark.parametrize("engine", ENGINES)
def test_where_a_mask_is_black_nothing_is_added(unet: nn.Module, engine: str) -> None:
    """At a layer's own output: further in, what has moved beside it spreads."""
    seen: list[tuple[Tensor, Tensor]] = []
    mask = torch.zeros(1, 64, 128)
    mask[..., 64:] = 1
    layer = unet.get_submodule("down_blocks.0.attentions.0")
    arrangement, how = Arrangement(ENGINES[engine]), MotionEffect(mask=mask, frames=FRAMES)
    before: list[Tensor] = []
    hooks = [layer.register_forward_hook(lambda m, a, output: before.append(output[0]))]
    with motion.attach(unet, random_model(), FRAMES, 1.0, arrangement, how):
        hooks.append(layer.register_forward_hook(lambda m, a, output: seen.append((before[-1], output[0]))))
        run(unet, batch())
    for hook in hooks:
        hook.remove()
    for plain, found in seen:
        half = plain.shape[-1] // 2
        assert torch.equal(found[..., :half], plain[..., :half])
        assert not torch.equal(found[..., half:], plain[..., half:])


@pytest.mark.parametrize("windows", [None, 3])
def test_the_scale_multiplies_the_keys_of_each_frame(windows: int | None) -> None:
    layer = random_model().slots["down_blocks.0.motion_modules.0"].double()
    x, scale = torch.randn(FRAMES, 32, 4, 4).double(), torch.linspace(0.2, 2, FRAMES).double()
    arrangement = Arrangement(Windows(FRAMES, windows, 1, engine="attention", schedule="static"))
    arrangement.begin(500)
    fusion = None if windows is None else arrangement.fusion(x)
    found = layer(x, FRAMES, 1.0, fusion, scale)
    for attention in layer.transformer_blocks[0].attention_blocks:  # type: ignore[union-attr]
        _scale_keys(attention, scale, fusion)
    assert far(found, layer(x, FRAMES, 1.0, fusion)) <= 1e-12


def _scale_keys(attention: TemporalAttention, scale: Tensor, fusion: object) -> None:
    """Attention written out, with keys of frames times the scale that is theirs."""

    def attend(x: Tensor) -> Tensor:
        q, k, v = (attention.pos_encoder(x) @ attention.to_qkv.T).chunk(3, dim=-1)
        of_frames = scale.expand(len(x), -1) if fusion is None else fusion.cut(scale[None]).repeat(len(x) // 3, 1)  # type: ignore[attr-defined]
        of_frames = of_frames[: len(x), : x.shape[1]]
        heads = (part.unflatten(-1, (attention.heads, -1)).transpose(1, 2) for part in (q, k * of_frames[..., None], v))
        q, k, v = heads
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        return attention.to_out[0]((weights @ v).transpose(1, 2).flatten(2))

    attention.forward = lambda x, scale=None: attend(x)  # type: ignore[assignment,method-assign,misc]


def test_nothing_is_left_and_keys_beyond_the_clip_are_refused(host: nn.Module) -> None:
    how = MotionEffect("@0: 1, @1: 0 * 0: 1, 5: 2", 0.5, {"down.1": 2.0}, torch.ones(1, 8, 8), FRAMES)
    check_no_trace(host, batch(), lambda: motion.attach(host, random_model(), FRAMES, 1.0, None, how), None)
    with pytest.raises(MotionError, match="9 is not in a clip of 6 frames"):
        moved(host, "one window", effect="0: 1, 9: 2")


def several(unet: nn.Module, engine: str, *effects: MotionEffect, time: float = 500) -> Tensor:
    """What a first module and one for each effect make of the same batch; their numbers come of their places."""
    torch.manual_seed(0)
    x, _, text = batch()
    arrangement, own = Arrangement(ENGINES[engine]), random_model()
    with ExitStack() as scope:
        scope.enter_context(motion.attach(unet, own, FRAMES, arrangement=arrangement))
        for effect in effects:
            scope.enter_context(attach_further(unet, random_model(), arrangement, effect))
        return run(unet, (x, torch.full((len(x),), time), text))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_further_module_has_an_effect_of_its_own(unet: nn.Module, engine: str) -> None:
    one = several(unet, engine)
    off = [MotionEffect(0, frames=FRAMES), MotionEffect(mask=torch.zeros(1, 8, 8)), MotionEffect(start=0.9)]
    assert torch.equal(several(unet, engine, *off), one)
    two = several(unet, engine, MotionEffect("0-2: 0.5, 3-5: 0.5", start=0.2, frames=FRAMES))
    assert far(two, one) > 1e-3
    assert torch.equal(several(unet, engine, MotionEffect(0.5)), two)
    assert torch.equal(several(unet, engine, MotionEffect(0.5, end=0.4)), one)


def test_a_further_module_leaves_nothing_and_needs_a_first_one(unet: nn.Module) -> None:
    arrangement, how = Arrangement(Windows(FRAMES)), MotionEffect("0: 1, -1: 2", frames=FRAMES, end=0.9)
    with pytest.raises(MotionError, match="beside a first one"), attach_further(unet, random_model(), arrangement, how):
        pass

    @contextmanager
    def both() -> Iterator[None]:
        first = motion.attach(unet, random_model(), FRAMES, 0.0, arrangement)
        with first, attach_further(unet, random_model(), arrangement, how):
            yield

    check_no_trace(unet, batch(), both, KeyboardInterrupt)
    assert not arrangement.spans
