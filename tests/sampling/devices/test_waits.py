"""How often a device is waited for: counted on the CPU by the calls that would wait."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import motion
import sparsectrl
from motion.sampling.arrangement import Arrangement
from motion.sampling.windows import Windows
from sparsectrl import Influence
from tests.support.small import batch, keyed, random_encoder, random_model, run

LONG, LENGTH, STEPS = 10, 4, 3
WAITING = {Tensor.item, Tensor.__float__, Tensor.__int__, Tensor.__bool__, Tensor.__index__, Tensor.tolist, Tensor.cpu}
INDEXING = {Tensor.__getitem__, Tensor.__setitem__}


class Waits(TorchFunctionMode):
    """Counts what reads a number back, and indices that would have to be copied to the device and waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in WAITING or (func in INDEXING and _has_a_list(args[1])):
            self.found[func.__name__] += 1
        return func(*args, **(kwargs or {}))


def _has_a_list(index: Any) -> bool:
    return isinstance(index, list) or (isinstance(index, tuple) and any(isinstance(part, list) for part in index))


@pytest.mark.usefixtures("inference")
@pytest.mark.parametrize("engine", ["denoiser", "attention"])
@pytest.mark.parametrize("influence", [Influence(), Influence(start=0.0, end=0.9)])
def test_a_step_waits_once_at_the_most_and_a_call_of_the_unet_never(
    unet: nn.Module, engine: str, influence: Influence
) -> None:
    arrangement, inputs = Arrangement(Windows(LONG, LENGTH, 1, engine=engine)), batch(LONG)
    condition, encoder = keyed(0, clip=LONG), random_encoder()
    plain: Counter[str] = Counter()
    with Waits() as waits:
        run(unet, inputs)
    plain.update(waits.found)
    scope = sparsectrl.attach(unet, encoder, condition, LONG, influence=influence, arrangement=arrangement)
    with motion.attach(unet, random_model(), LONG, 1.0, arrangement), scope as effect:
        for step in range(STEPS):
            arrangement.step_begins()
            windows = len(arrangement.windows.at(step, 0.95)) if engine == "denoiser" else 1
            of_step: Counter[str] = Counter()
            for _ in range(2):  # prompt and negative prompt apart
                with Waits() as waits:
                    run(unet, inputs)
                of_step.update(waits.found)
            ours = sum(of_step.values()) - 2 * windows * sum(plain.values())
            assert ours <= 1, of_step
    with Waits() as waits:
        effect.check()
    assert sum(waits.found.values()) == 1, "one for all that is to be known"


def test_steps_are_those_that_the_host_tells_of() -> None:
    """Within one the time is read once; where it stays the same, as in a sampler's second evaluation, so do windows."""
    arrangement = Arrangement(Windows(40, 16))
    found = []
    for time in (900, 900, 800):
        arrangement.step_begins()
        found.append(arrangement.begin(torch.full((80,), time)))
        with Waits() as waits:
            assert arrangement.begin(torch.full((80,), time)) == found[-1]
        assert not waits.found
    assert found[0] == found[1] != found[2]
