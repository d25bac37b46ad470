"""Spatial layers take a few frames at a time where the host says that its memory is short, and nowhere else."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import motion
from motion.hosts import memory
from motion.hosts.webui.backends.slices import attach_slices
from motion.models import sites
from motion.sampling.arrangement import Arrangement
from motion.sampling.windows import Windows
from motion.settings.tab import Tab
from tests.support.small import batch, far, random_model
from tests.support.trace import everything

FRAMES = 6
pytestmark = pytest.mark.usefixtures("inference")
NEEDED = memory.needed_bytes(FRAMES, 8, 8, 4)


def drawn(unet: nn.Module, *free: float, by_row: bool = False, **told: Any) -> tuple[Tensor, list[int]]:
    """What is predicted where so much is free, before and as the call begins, and the rows that go through a layer."""
    arrangement, seen, left = Arrangement(Windows(FRAMES)), list[int](), list(free)
    torch.manual_seed(0)
    model = random_model()
    with ExitStack() as scope:
        attach_slices(unet, Tab(), arrangement, lambda: left.pop(0), scope)
        arrangement.by_row = by_row
        scope.enter_context(motion.attach(unet, model, FRAMES, arrangement=arrangement))
        attention, _ = next(sites.self_attentions(sites.find(unet)))
        handle = attention.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
        scope.callback(handle.remove)
        predicted: Tensor = unet(*batch(FRAMES, size=(8, 8)), **told).sample
    return predicted, seen


def test_memory_that_is_short_slices_and_the_clip_is_the_same(unet: nn.Module) -> None:
    before = everything(unet)
    whole, rows = drawn(unet, 0, NEEDED)
    assert rows == [FRAMES]
    sliced, rows = drawn(unet, NEEDED, NEEDED - 1)
    assert rows == [memory.SPARING_ROWS, FRAMES - memory.SPARING_ROWS]
    assert far(sliced, whole) <= 1e-5
    assert everything(unet) == before


def test_where_nobody_knows_nothing_is_installed(unet: nn.Module) -> None:
    before = everything(unet)
    for tab, free in ((Tab(), None), (Tab(cross_frame="first"), 0.0)):
        arrangement = Arrangement(Windows(FRAMES))
        with ExitStack() as scope:
            attach_slices(unet, tab, arrangement, [free].pop, scope)
            assert not arrangement.listeners and not arrangement.may_slice and everything(unet) == before


@pytest.mark.parametrize("by", ["a LoRA by frame", "a layer in another's place", "a patch of the host's"])
def test_layers_that_are_told_something_by_the_row_get_all(
    unet: nn.Module, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    told: dict[str, Any] = {}
    if by == "a layer in another's place":
        attention, _ = next(sites.self_attentions(sites.find(unet)))
        monkeypatch.setattr(attention, "forward", attention.forward)
    if by == "a patch of the host's":
        plain = unet.forward
        monkeypatch.setattr(unet, "forward", lambda *args, transformer_options: plain(*args))
        told["transformer_options"] = {"patches": {"attn1_patch": [None]}}
    assert drawn(unet, 0, 0, by_row=by == "a LoRA by frame", **told)[1] == [FRAMES]
