"""Weights that are a curve, of LoRAs and of a second checkpoint: a layer is the merged one of the frame in each row."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import motion
from motion.errors import MotionError
from motion.fields.curve import Value
from motion.fields.curve_text import read_curve
from motion.models import sites
from motion.models.motion.model import MotionModel
from motion.models.motion.stand_ins import stand_ins
from motion.sampling.arrangement import Arrangement
from motion.sampling.lora import WeightedLora
from motion.sampling.windows import Window, Windows
from motion.weights.formats.lora import Lora, flat
from motion.weights.formats.pairs import Pair
from motion.weights.formats.unet_layers import unet_layers
from tests.sampling.test_lora import ATTENTION, BLOCK, adapter, motion_lora
from tests.support import small
from tests.support.small import far, random_model, run
from tests.support.trace import check_no_trace

FRAMES = 6
ENGINES = {
    "one window": Windows(FRAMES),
    "denoiser": Windows(FRAMES, 4, 2),
    "attention": Windows(FRAMES, 4, 2, engine="attention"),
    "views": Windows(FRAMES, 5, 2, view_length=3, view_overlap=1),
}
CURVE = "0: 0, 2: 0, 4: 1.5, 5: -0.5"
WEIGHTS = read_curve(CURVE).at(FRAMES)
pytestmark = pytest.mark.usefixtures("inference")
batch = partial(small.batch, FRAMES, 2)
STYLED = 4
styled_batch = partial(small.batch, STYLED, 2)


@contextmanager
def attached(
    unet: nn.Module, model: MotionModel, loras: Sequence[WeightedLora], arrangement: Arrangement
) -> Iterator[None]:
    with (
        motion.attach(unet, model, FRAMES, arrangement=arrangement),
        motion.lora.attach(unet, model, loras, FRAMES, arrangement),
    ):
        yield


@pytest.fixture
def model() -> MotionModel:
    torch.manual_seed(0)
    return random_model()


def drawn(
    unet: nn.Module,
    model: MotionModel,
    *loras: WeightedLora,
    time: float = 400,
    arrangement: Arrangement | None = None,
) -> Tensor:
    torch.manual_seed(0)
    x, _, text = batch()
    with attached(unet, model, loras, arrangement or Arrangement(ENGINES["one window"])):
        return run(unet, (x, torch.full((len(x),), time), text))


class Layer(NamedTuple):
    """A layer that is called, its matrix and bias, and what a LoRA of weight 1 adds to the matrix."""

    module: nn.Module
    weight: Tensor
    bias: Tensor | None
    delta: Tensor


def temporal_layers(unet: nn.Module, model: MotionModel, lora: Lora) -> dict[str, Layer]:
    slot = "up_blocks.0.motion_modules.0"
    block: Any = stand_ins(unet)[model.slots[slot]].transformer_blocks[0]
    attention, last = block.attention_blocks[1], block.ff.net["2"]
    parts: dict[str, tuple[Any, Tensor, Tensor | None, list[str]]] = {
        "projections": (attention.project, attention.to_qkv, None, [f"{BLOCK}.1.to_{part}" for part in "qkv"]),
        "output": (attention.to_out[0], attention.to_out[0].weight, attention.to_out[0].bias, [f"{BLOCK}.1.to_out.0"]),
        "feed-forward": (last, last.weight, last.bias, ["transformer_blocks.0.ff.net.2"]),
    }
    return {
        part: Layer(*found, torch.cat([lora.pairs[f"{slot}.temporal_transformer.{name}"].delta() for name in names]))
        for part, (*found, names) in parts.items()
    }


@pytest.mark.parametrize("engine", ENGINES)
def test_a_layer_is_the_merged_one_frame_by_frame(unet: nn.Module, model: MotionModel, engine: str) -> None:
    arrangement, moves, looks = Arrangement(ENGINES[engine]), motion_lora(model), adapter(unet)
    seen: list[tuple[str, Tensor, Tensor, Window]] = []
    with attached(unet, model, [(moves, CURVE), (looks, CURVE)], arrangement):
        layers = temporal_layers(unet, model, moves)
        own: Any = sites.attention_layers(unet)[ATTENTION]
        layers["image"] = Layer(own, own.weight, own.bias, looks.pairs[ATTENTION].delta())

        def note(part: str, _: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            windows = tuple(frame for window, _ in arrangement.groups for frame in window)
            whole = part in ("feed-forward", "image")
            seen.append((part, args[0], output, arrangement.together if whole else windows))

        handles = [layer.module.register_forward_hook(partial(note, part)) for part, layer in layers.items()]
        run(unet, batch())
        for handle in handles:
            handle.remove()
    assert {part for part, *_ in seen} == layers.keys()
    for part, x, output, frames in seen:
        layer, rows = layers[part], (len(x) if part == "image" else x.shape[:2].numel())
        of_rows = torch.tensor(frames).repeat(rows // len(frames)).view(x.shape[: 1 if part == "image" else 2])
        for frame in set(frames):
            here = of_rows == frame
            wanted = F.linear(x[here], layer.weight + WEIGHTS[frame] * layer.delta, layer.bias)
            assert far(output[here], wanted) < 1e-5


IMAGE_LAYERS = {
    "convolution": "down_blocks.0.resnets.0.conv1",
    "strided convolution": "down_blocks.0.downsamplers.0.conv",
    "convolution behind a resampling": "up_blocks.0.upsamplers.0.conv",
    "projection": "up_blocks.1.attentions.0.proj_in",
    "feed-forward": "up_blocks.1.attentions.0.transformer_blocks.0.ff.net.2",
    "text": "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k",
    "time": "down_blocks.0.resnets.0.time_emb_proj",
    "time of all": "time_embedding.linear_2",
}


def image_lora(unet: nn.Module) -> Lora:
    """One of all `IMAGE_LAYERS`, by the names that kohya's scripts give them."""
    layers, pairs = unet_layers(unet), {}
    for name in IMAGE_LAYERS.values():
        out, inner, *kernel = layers[flat(name)].get_parameter("weight").shape
        down, up = torch.randn(3, inner, *kernel), torch.randn(out, 3, *[1 for _ in kernel])
        pairs[f"lora_unet_{flat(name)}"] = Pair(down / inner**0.5, up, 0.5)
    return Lora("of pictures", "image", pairs, {}, plain=True)


@pytest.mark.parametrize("engine", ENGINES)
def test_any_layer_of_the_image_model_is_the_merged_one_frame_by_frame(
    host: nn.Module, model: MotionModel, engine: str
) -> None:
    arrangement, lora = Arrangement(ENGINES[engine]), image_lora(host)
    seen: list[tuple[str, Tensor, Tensor, Window]] = []
    layers, copies = unet_layers(host), unet_layers(copy.deepcopy(host))
    with attached(host, model, [(lora, CURVE)], arrangement):

        def note(name: str, _: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            seen.append((name, args[0], output, arrangement.together))

        handles = [layers[name].register_forward_hook(partial(note, name)) for name in lora.pairs]
        run(host, batch())
        for handle in handles:
            handle.remove()
    assert {name for name, *_ in seen} == lora.pairs.keys()
    own = {name: copies[name].get_parameter("weight").clone() for name in lora.pairs}
    for name, x, output, frames in seen:
        of_rows = torch.tensor(frames).repeat(len(x) // len(frames))
        for frame in set(frames):
            merged = own[name] + WEIGHTS[frame] * lora.pairs[name].delta().view_as(own[name])
            copies[name].weight = nn.Parameter(merged, requires_grad=False)
            assert far(output[of_rows == frame], copies[name](x[of_rows == frame])) < 1e-5


def test_frames_that_read_others_have_weights_of_their_own(unet: nn.Module, model: MotionModel) -> None:
    precise, arrangement = copy.deepcopy(unet).double(), Arrangement(ENGINES["one window"])
    looks = adapter(unet)
    wanted = drawn(precise, model.double(), (looks, 0.7))
    with motion.cross_frame.attach(precise, FRAMES, "first", arrangement=arrangement):
        number = drawn(precise, model, (looks, 0.7), arrangement=arrangement)
        found = drawn(precise, model, (looks, "0: 0.7, 1: 0.7000000001, 2: 0.7"), arrangement=arrangement)
    assert far(found, number) < 1e-6
    assert far(found, wanted) > 1e-3


def test_a_constant_curve_is_bit_equal_to_the_number(unet: nn.Module, model: MotionModel) -> None:
    moves, looks = motion_lora(model), adapter(unet)
    number = drawn(unet, model, (moves, 0.7), (looks, 0.5))
    assert torch.equal(drawn(unet, model, (moves, "0: 0.7, -1: 0.7"), (looks, "@0: 0.5"), (looks, "0: 0")), number)


def test_steps_are_told_by_the_time_of_the_call(unet: nn.Module, model: MotionModel) -> None:
    precise, moves = copy.deepcopy(unet).double(), motion_lora(model)
    half = drawn(precise, model.double(), (moves, "@0: 0, @1: 1"), time=499.5)
    assert far(half, drawn(precise, model, (moves, 0.5), time=499.5)) < 1e-6


def test_keys_that_are_not_in_the_clip_are_refused(unet: nn.Module, model: MotionModel) -> None:
    with pytest.raises(MotionError, match="9 is not in a clip of 6 frames"):
        drawn(unet, model, (motion_lora(model), "0: 1, 9: 0"))


@pytest.fixture(scope="module")
def other(unet: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    changed = copy.deepcopy(unet)
    for weight in changed.parameters():
        weight += 0.05 * torch.randn_like(weight)
    return changed


def styled(unet: nn.Module, other: nn.Module, strength: Value, windows: Windows | None = None) -> Tensor:
    arrangement = Arrangement(windows or Windows(STYLED))
    torch.manual_seed(0)
    model = random_model().to(next(unet.parameters()))
    with (
        motion.attach(unet, model, STYLED, arrangement=arrangement),
        motion.style.attach(unet, other, strength, STYLED, arrangement),
    ):
        return run(unet, styled_batch())


def test_numbers_are_weights_between_both(unet: nn.Module, other: nn.Module) -> None:
    assert torch.equal(styled(unet, other, 0), styled(unet, unet, 0.6))
    half = copy.deepcopy(unet)
    for weight, second in zip(half.parameters(), other.parameters(), strict=True):
        weight.lerp_(second, 0.5)
    assert far(styled(unet, other, "0: 0.5, -1: 0.5"), styled(half, other, 0)) <= 1e-6


def test_weights_in_eight_bits_keep_theirs_and_the_rest_is_mixed_in(unet: nn.Module, other: nn.Module) -> None:
    """To a part of a rounding step of theirs it would change nothing."""
    stored, wide = copy.deepcopy(unet), copy.deepcopy(unet)
    stored.enable_layerwise_casting(torch.float8_e4m3fn, torch.float32)  # type: ignore[operator]
    wide.load_state_dict({name: weight.float() for name, weight in stored.state_dict().items()})
    found = []
    for each in (stored, wide):
        with motion.style.attach(each, other, 0.02, STYLED):
            found.append(each(*styled_batch()).sample)
    assert far(*found) < 1e-5


def test_each_layer_has_the_weights_of_its_frame(unet: nn.Module, other: nn.Module) -> None:
    """Also in windows; whatever the kind of the layer."""
    names = ("conv_in", "down_blocks.0.resnets.0.norm1", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q")
    windows, calls = Windows(STYLED, 3, 1), list[tuple[str, Tensor, Tensor, tuple[int, ...]]]()
    arrangement = Arrangement(windows)
    with (
        motion.attach(unet, random_model(), STYLED, arrangement=arrangement),
        motion.style.attach(unet, other, "0: 0, -1: 1", STYLED, arrangement),
    ):
        hooks = [
            unet.get_submodule(name).register_forward_hook(
                lambda _, args, output, name=name: calls.append((name, args[0], output, arrangement.together))
            )
            for name in names
        ]
        run(unet, styled_batch())
    for hook in hooks:
        hook.remove()
    assert {name for name, *_ in calls} == {*names}
    for name, x, output, together in calls:
        for row in range(len(x)):
            merged = copy.deepcopy(unet.get_submodule(name))
            for weight, second in zip(merged.parameters(), other.get_submodule(name).parameters(), strict=True):
                weight.lerp_(second, together[row % len(together)] / 3)
            assert far(output[row], merged(x[row : row + 1])[0]) <= 1e-5


def test_nothing_is_left_and_other_layers_are_refused(unet: nn.Module, other: nn.Module) -> None:
    for strength in (0.5, "0: 0, -1: 1"):
        scope = partial(motion.style.attach, unet, other, strength, STYLED)
        check_no_trace(unet, styled_batch(), scope, KeyboardInterrupt)
    with pytest.raises(MotionError, match="has other layers"), motion.style.attach(unet, nn.Linear(2, 2), 0.5, STYLED):
        pass
