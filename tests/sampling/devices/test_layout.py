"""UNets whose numbers lie channels last: each of their layers is given and makes what it would without us."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import motion
import sparsectrl
from motion.sampling.arrangement import Arrangement
from motion.sampling.effect import MotionEffect
from motion.sampling.windows import Windows
from tests.support.small import batch, keyed, random_encoder, random_model

FRAMES = 4
pytestmark = pytest.mark.usefixtures("inference")
Scope = Callable[[nn.Module, Arrangement], AbstractContextManager[Any]]
Layouts = dict[str, set[tuple[int, ...]]]


def moving(family: str = "v3", **effect: Any) -> Scope:
    return lambda unet, at: motion.attach(unet, random_model(family), at.frames, 1.0, at, MotionEffect(**effect))


def reading(unet: nn.Module, at: Arrangement) -> AbstractContextManager[Any]:
    """Frames that are only read."""
    at.give(lambda window: range(FRAMES))
    return moving("v1")(unet, at)


def keys(unet: nn.Module, at: Arrangement) -> AbstractContextManager[Any]:
    return sparsectrl.attach(unet, random_encoder(), keyed(0, clip=at.frames, size=(8, 8)), at.frames, arrangement=at)


@contextmanager
def cached(unet: nn.Module, at: Arrangement) -> Iterator[None]:
    with moving()(unet, at), motion.step_cache.attach(unet, at, 3):
        yield


SCENES: dict[str, tuple[Scope, Windows, dict[str, Any]]] = {
    "plain": (moving(), Windows(FRAMES), {}),
    "norms over frames, mask": (moving("v1", mask=torch.rand(1, 8, 8)), Windows(FRAMES), {}),
    "windows": (moving(), Windows(FRAMES, 3, 1), {}),
    "attention, in parts": (moving(), Windows(FRAMES, 3, 1, engine="attention"), {"rows_at_once": 3}),
    "frames that are read": (reading, Windows(FRAMES, 3, 1), {}),
    "cache": (cached, Windows(FRAMES, 3, 1), {}),
    "key frames": (keys, Windows(FRAMES), {}),
}


def layouts(unet: nn.Module, inputs: tuple[Tensor, ...], arrangement: Arrangement, steps: int = 1) -> Layouts:
    """Strides behind the first of all pictures that each module is given and makes."""
    found: Layouts = defaultdict(set)

    def look(name: str) -> Callable[..., None]:
        def note(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            pictures = [leaf for leaf in tree_leaves((args, kwargs, output)) if isinstance(leaf, Tensor)]
            found[name] |= {picture.stride()[1:] for picture in pictures if picture.ndim == 4}

        return note

    hooks = [
        module.register_forward_hook(look(name), with_kwargs=True) for name, module in unet.named_modules() if name
    ]
    for step in range(steps):
        arrangement.step_begins(step, 9)
        unet(*inputs)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("scene", SCENES)
def test_no_layer_is_given_another_layout(unet: nn.Module, scene: str) -> None:
    """Behind hooks that have been there before us, as a host's own are: what a block hands on is seen by the next."""
    unet = copy.deepcopy(unet).to(memory_format=torch.channels_last)
    scope, windows, options = SCENES[scene]
    inputs, arrangement = batch(FRAMES, 2, (8, 8)), Arrangement(windows, **options)
    inputs = inputs[0].to(memory_format=torch.channels_last), *inputs[1:]
    wanted = layouts(unet, inputs, arrangement)
    assert any(stride[0] == 1 for stride in wanted["up_blocks.3"])
    with scope(unet, arrangement):
        found = layouts(unet, inputs, arrangement, steps=3 if scene == "cache" else 1)
    assert found == {name: wanted[name] for name in found}
