"""Half precision on the CPU against float32: every family's layers within 0.1 % in float16, 1 % in bfloat16. And their
matrices in eight bits."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import motion
import sparsectrl
from motion.models.motion.architecture import FAMILIES
from motion.models.motion.model import MotionModel
from motion.sampling.arrangement import Arrangement
from motion.sampling.casting import copied
from motion.sampling.windows import Windows
from tests.support.small import batch, far, keyed, random_encoder, random_model, run

FRAMES = 4
BOUNDS = {torch.float16: 1e-3, torch.bfloat16: 1e-2}
pytestmark = pytest.mark.usefixtures("inference")


def rounded(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy with the numbers of `dtype`, in float32: what a file in half precision holds."""
    return copy.deepcopy(module).to(dtype).float()


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_layers(family: str, dtype: torch.dtype) -> None:
    """What each adds to its input, of the widths that it has in this UNet."""
    model: MotionModel = rounded(random_model(family, mid=family == "v2"), dtype)
    for layer in model.slots.values():
        x = torch.randn(FRAMES, layer.norm.num_channels, 4, 4).to(dtype).float()
        wanted = layer(x, FRAMES) - x
        found = copy.deepcopy(layer).to(dtype)(x.to(dtype), FRAMES).float() - x
        assert far(found, wanted) < BOUNDS[dtype]


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_whose_matrices_are_stored_in_eight_bits(family: str) -> None:
    """What each adds is as near as one number of theirs: three bits behind the point, so half of the last is 1/16."""
    for layer in random_model(family, mid=family == "v2").slots.values():
        x, cpu = torch.randn(FRAMES, layer.norm.num_channels, 4, 4), torch.device("cpu")
        stored = copied(layer, cpu, torch.float32, torch.float8_e4m3fn)
        assert 0 < far(stored(x, FRAMES) - x, layer(x, FRAMES) - x) < 1 / 16
        for name, parameter in stored.named_parameters():
            assert parameter.dtype == (torch.float8_e4m3fn if parameter.ndim == 2 else torch.float32), name


@pytest.mark.parametrize("dtype", BOUNDS)
def test_what_a_unet_predicts(unet: nn.Module, dtype: torch.dtype) -> None:
    """With key frames and windows whose shares are rounded it is as near as the UNet alone, whose random layers lose
    0.2 % in float16."""
    inputs, windows = batch(6, size=(8, 8)), Windows(6, FRAMES, 1, engine="attention")
    parts = [rounded(part, dtype) for part in (unet, random_model(), random_encoder())]

    def predicted(to: torch.dtype) -> tuple[Tensor, Tensor]:
        own, model, encoder = (copy.deepcopy(part).to(to) for part in parts)
        arrangement, condition = Arrangement(windows), keyed(0, clip=6, size=(8, 8))
        plain = run(own, inputs).float()
        with (
            motion.attach(own, model, 6, arrangement=arrangement),
            sparsectrl.attach(own, encoder, condition, 6, arrangement=arrangement),
        ):
            return plain, run(own, inputs).float()

    (plain, moved), (plain_exact, exact) = predicted(dtype), predicted(torch.float32)
    assert far(moved, exact) < 1.1 * far(plain, plain_exact)
