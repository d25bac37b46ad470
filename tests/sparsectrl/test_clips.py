"""Clips of a batch with key frames of their own, and gradients through a scope whose layers are computed twice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

import sparsectrl
from motion.errors import MotionError
from sparsectrl.encoder import Shape, SparseEncoder
from tests.support.small import far

FRAMES = 3


@pytest.fixture(scope="module")
def encoder() -> SparseEncoder:
    torch.manual_seed(2)
    encoder = SparseEncoder(Shape((32, 32, 64, 64), 48))
    for parameter in encoder.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    return encoder


def inputs(groups: int) -> tuple[Tensor, Tensor, Tensor]:
    rows = groups * FRAMES
    return torch.randn(rows, 4, 8, 8), torch.full((rows,), 500), torch.randn(rows, 7, 48)


def keyed(*frames: int) -> Tensor:
    return sparsectrl.condition({frame: torch.randn(4, 8, 8) for frame in frames}, FRAMES)


def run(unet: Any, encoder: SparseEncoder, condition: Tensor, batch: tuple[Tensor, ...]) -> Tensor:
    with sparsectrl.attach(unet, encoder, condition, FRAMES):
        output: Tensor = unet(*batch).sample
    return output


def test_each_clip_obeys_its_own_keys(unet: UNet2DConditionModel, encoder: SparseEncoder) -> None:
    batch, conditions = inputs(4), torch.stack([keyed(0), keyed(1, 2)])
    with torch.no_grad():
        together = run(unet, encoder, conditions, batch)
        for clip in range(4):
            part = tuple(rows[clip * FRAMES : (clip + 1) * FRAMES] for rows in batch)
            alone = run(unet, encoder, conditions[clip % 2], part)
            assert far(together[clip * FRAMES : (clip + 1) * FRAMES], alone) <= 1e-5


def test_the_effect_names_the_keys_of_all_clips(unet: UNet2DConditionModel, encoder: SparseEncoder) -> None:
    with sparsectrl.attach(unet, encoder, torch.stack([keyed(2), keyed(0)]), FRAMES) as effect:
        assert effect.keys == (0, 2)
        with pytest.raises(MotionError, match="no multiple of 6 frames"):
            unet(*inputs(3))


def test_layers_that_are_computed_twice_give_the_same_gradients(
    unet: UNet2DConditionModel, encoder: SparseEncoder
) -> None:
    batch, condition, gradients = inputs(1), keyed(0), []
    unet.train()  # diffusers computes twice in training only
    try:
        for twice in (False, True):
            unet.enable_gradient_checkpointing() if twice else unet.disable_gradient_checkpointing()
            with sparsectrl.attach(unet, encoder, condition, FRAMES):
                loss = unet(*batch).sample.square().mean()
                gradients.append(torch.autograd.grad(loss, list(encoder.parameters()), allow_unused=True))
    finally:
        unet.disable_gradient_checkpointing()
    for plain, again in zip(*gradients, strict=True):
        assert (plain is None) is (again is None)
        assert plain is None or torch.equal(plain, again)
