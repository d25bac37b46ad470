"""A UNet that torch.compile has compiled before: it moves within the scope, and is compiled again behind it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

import motion
import sparsectrl
from motion.weights.formats.lora import Lora
from tests.support.small import TEXT, batch, far, keyed, random_encoder, random_model, random_pair, run

FRAMES, WIDTHS = 2, (32, 32)
Scope = Callable[[nn.Module], AbstractContextManager[object]]


def scopes() -> dict[str, Scope]:
    model, encoder = random_model(widths=WIDTHS), random_encoder(WIDTHS)
    name = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    adapter = Lora("adapter", "image", {name: random_pair(32, 32)}, {})
    return {
        "motion": lambda unet: motion.attach(unet, model, FRAMES),
        "adapter": lambda unet: motion.lora.attach(unet, None, [(adapter, 3.0)]),
        "key frames": lambda unet: sparsectrl.attach(unet, encoder, keyed(0, clip=FRAMES), FRAMES),
    }


def small_unet() -> nn.Module:
    """One of the test's own: compiling leaves traces."""
    blocks = {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
              "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")}  # fmt: skip
    unet = UNet2DConditionModel(block_out_channels=WIDTHS, cross_attention_dim=TEXT, attention_head_dim=8, **blocks)
    return unet.eval().requires_grad_(False)


@pytest.mark.usefixtures("inference")
@pytest.mark.parametrize(
    ("name", "way"), [("motion", "torch.compile"), ("key frames", "module.compile"), ("adapter", "a layer")]
)
def test_a_compiled_unet_moves(name: str, way: str) -> None:
    unet, scope, inputs = small_unet(), scopes()[name], batch(FRAMES)
    plain = run(unet, inputs)
    with scope(unet):
        moving = run(unet, inputs)
    compiled: nn.Module = unet
    if way == "torch.compile":
        compiled = torch.compile(unet, backend="eager")  # type: ignore[assignment]
    else:
        layer = unet if way == "module.compile" else unet.get_submodule("down_blocks.0.attentions.0")
        layer.compile(backend="eager")
    stills: list[Tensor] = [run(compiled, inputs)]
    for given in {compiled: None, unet: None}:  # the host may hand over either
        with scope(given):
            assert torch.equal(run(compiled, inputs), moving)
        stills.append(run(compiled, inputs))
    torch._dynamo.reset()
    assert far(moving, plain) > 1e-3
    assert all(far(still, plain) <= 1e-6 for still in stills)
