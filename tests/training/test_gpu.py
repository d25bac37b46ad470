"""Recipes on a GPU that is not there: their steps, averages, states and files; and that they go on there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import PartialState

from motion.training import loop
from motion.training.conditions import Condition
from motion.training.loop import Plan
from motion.training.run import Run
from motion.training.sparse import train_sparsectrl
from tests.support.simulated_gpu import SimulatedGpu, simulated_gpu
from tests.training.test_folder_recipes import RECIPES, job, room, tensors

__all__ = ["room"]  # a fixture

PLAN = Plan(steps=2, learning_rate=1e-2, warmup=1, ema=0.5)
ON_GPU: dict[str, Callable[[Run, Plan], Path]] = {
    "adapter": lambda run, plan: RECIPES["adapter"](replace(run, batch=2), plan),  # of one frame each
    "sparsectrl": lambda run, plan: train_sparsectrl(run, Condition("rgb"), plan),
}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedGpu]:
    """One that the team of processes, which is a single one, has found."""
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    PartialState._reset_state()
    with simulated_gpu() as gpu:
        yield gpu
    PartialState._reset_state()


@pytest.mark.parametrize("name", ON_GPU)
def test_a_recipe_learns_on_the_device_and_goes_on_there(
    name: str, gpu: SimulatedGpu, room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step waits for its loss alone; weights come back to be kept."""
    marks, step = [], loop._Learner.step

    def noted(*args: int) -> float:
        marks.append(len(gpu.events))
        loss = step(*args)  # type: ignore[arg-type]
        marks.append(len(gpu.events))
        return loss

    monkeypatch.setattr(loop._Learner, "step", noted)
    run = job(room, tmp_path, device="cuda", batch=1)
    before = tensors(ON_GPU[name](run, replace(PLAN, steps=1)))
    after = tensors(ON_GPU[name](run, PLAN))
    _, _, begin, end = marks
    of_step = Counter(event.kind for event in gpu.events[begin:end])
    assert of_step["to host"] == of_step["wait"] == 1
    assert all(tensor.isfinite().all() for tensor in after.values())
    assert any(not torch.equal(tensor, before[key]) for key, tensor in after.items())
