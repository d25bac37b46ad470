"""The style of a second checkpoint: weights between two, for all frames or for each."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn

import motion
from motion.errors import MotionError
from motion.fields.curve import Value
from motion.sampling.arrangement import Arrangement
from motion.sampling.windows import Windows
from tests.support import small
from tests.support.small import far, random_model, run
from tests.support.trace import check_no_trace

FRAMES = 4
pytestmark = pytest.mark.usefixtures("inference")
batch = partial(small.batch, FRAMES, 2)


@pytest.fixture(scope="module")
def other(unet: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    changed = copy.deepcopy(unet)
    for weight in changed.parameters():
        weight += 0.05 * torch.randn_like(weight)
    return changed


def drawn(unet: nn.Module, other: nn.Module, strength: Value, windows: Windows | None = None) -> Tensor:
    arrangement = Arrangement(windows or Windows(FRAMES))
    torch.manual_seed(0)
    model = random_model().to(next(unet.parameters()))
    with (
        motion.attach(unet, model, FRAMES, arrangement=arrangement),
        motion.style.attach(unet, other, strength, FRAMES, arrangement),
    ):
        return run(unet, batch())


def test_numbers_are_weights_between_both(unet: nn.Module, other: nn.Module) -> None:
    assert torch.equal(drawn(unet, other, 0), drawn(unet, unet, 0.6))
    half = copy.deepcopy(unet)
    for weight, second in zip(half.parameters(), other.parameters(), strict=True):
        weight.lerp_(second, 0.5)
    assert far(drawn(unet, other, "0: 0.5, -1: 0.5"), drawn(half, other, 0)) <= 1e-6


def test_each_layer_has_the_weights_of_its_frame(unet: nn.Module, other: nn.Module) -> None:
    """Also in windows; whatever the kind of the layer."""
    names = ("conv_in", "down_blocks.0.resnets.0.norm1", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q")
    windows, calls = Windows(FRAMES, 3, 1), list[tuple[str, Tensor, Tensor, tuple[int, ...]]]()
    arrangement = Arrangement(windows)
    with (
        motion.attach(unet, random_model(), FRAMES, arrangement=arrangement),
        motion.style.attach(unet, other, "0: 0, -1: 1", FRAMES, arrangement),
    ):
        hooks = [
            unet.get_submodule(name).register_forward_hook(
                lambda _, args, output, name=name: calls.append((name, args[0], output, arrangement.together))
            )
            for name in names
        ]
        run(unet, batch())
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
        check_no_trace(unet, batch(), lambda: motion.style.attach(unet, other, strength, FRAMES), KeyboardInterrupt)  # noqa: B023
    with pytest.raises(MotionError, match="has other layers"), motion.style.attach(unet, nn.Linear(2, 2), 0.5, FRAMES):
        pass
