"""Both encoders agree with the authors' code (tests/oracle) to 5e-5, alone and beside a motion module."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn

import motion
import sparsectrl
from motion.models.motion.model import MotionModel
from sparsectrl.encoder import Embedding, SparseEncoder
from tests.support.small import far

State = dict[str, Tensor]
SCALE = 0.8
STORED = [16, 19, 25]
"""The rows whose residuals are kept: frames 0, 3 and 9 of the second clip."""


@pytest.mark.parametrize("kind", ["rgb", "scribble"])
def test_residuals(
    kind: str,
    encoders: dict[str, SparseEncoder],
    conditions: dict[str, Tensor],
    clip: State,
    oracle_of: Callable[[str], State],
) -> None:
    io = oracle_of(f"sparse_{kind}_io")
    with torch.no_grad():
        encoder = encoders[kind]
        residuals = encoder(Embedding(encoder)(conditions[kind]), clip["t"], clip["c"])
    for name, residual in zip([*(f"down{i}" for i in range(12)), "mid"], residuals, strict=True):
        theirs = rearrange(io[name], "b c f h w -> (b f) c h w")
        assert far(SCALE * residual[STORED], theirs) <= 5e-5, name


@pytest.mark.parametrize("host", ["unet", "ldm_unet"])
@pytest.mark.parametrize("motion_first", [True, False])
def test_the_whole_unet_in_either_order_of_attaching(
    host: str,
    motion_first: bool,
    encoders: dict[str, SparseEncoder],
    conditions: dict[str, Tensor],
    clip: State,
    v3: MotionModel,
    oracle_of: Callable[[str], State],
    request: pytest.FixtureRequest,
) -> None:
    unet: nn.Module = request.getfixturevalue(host)
    scopes = [
        motion.attach(unet, v3, frames=16),
        sparsectrl.attach(unet, encoders["rgb"], conditions["rgb"], frames=16, scale=SCALE),
    ]
    with torch.no_grad(), ExitStack() as stack:
        for scope in scopes if motion_first else reversed(scopes):
            stack.enter_context(scope)
        output = unet(clip["x"], clip["t"], clip["c"])
    theirs = rearrange(oracle_of("sparse_rgb_io")["y"], "b c f h w -> (b f) c h w")
    assert far(output if isinstance(output, Tensor) else output.sample, theirs) <= 5e-5
