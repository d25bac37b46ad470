"""The loop that every recipe runs in: a step is a pure function of the weights and the step's number.

That is what makes a run resumable without a trace: nothing random survives from one step to the next, so a run that
was killed continues with the losses that the unbroken one would have had.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from motion.errors import MotionError

SAVE_EVERY_SECONDS = 60.0


@dataclass(frozen=True)
class Plan:
    """How long and how fast a stage learns.

    The learning rate rises linearly over ``warmup`` steps and falls on a half cosine to a hundredth; ``ema`` is the
    decay of the averaged weights that are kept in the end (0: none are averaged). A step sums the gradients of
    ``accumulate`` losses.
    """

    steps: int
    learning_rate: float
    warmup: int = 100
    ema: float = 0.0
    weight_decay: float = 0.0
    clip: float = 1.0
    seed: int = 0
    accumulate: int = 1

    def rate(self, step: int) -> float:
        """Learning rate of ``step``, counted from 0."""
        rise = min(1.0, (step + 1) / max(1, self.warmup))
        return self.learning_rate * rise * (0.01 + 0.99 * (1 + math.cos(math.pi * step / self.steps)) / 2)


def step_seed(seed: int, step: int) -> int:
    """The seed of everything random in one step."""
    return seed * 10_000_019 + step


def train(
    name: str,
    module: nn.Module,
    loss_of: Callable[[int], Tensor],
    plan: Plan,
    folder: Path,
    after: Callable[[int], None] = lambda done: None,
) -> None:
    """Train the parameters of ``module`` that require gradients, in place; resume from ``folder`` if a run lies there.

    Args:
        name: of the stage; its state and its metrics are ``<name>.state.pt`` and ``<name>.csv`` in ``folder``.
        module: left with the averaged weights where the plan asks for an average.
        loss_of: the scalar loss of one step, given the step's seed (``step_seed``).
        after: called behind each step with the number of those that are done.

    Raises:
        MotionError: the loss is no longer a number; the last saved state stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=plan.learning_rate, weight_decay=plan.weight_decay)
    average = [parameter.detach().clone() for parameter in parameters]
    state = _State(folder / f"{name}.state.pt", module, optimizer, average)
    begin = state.restore()
    metrics = _Metrics(folder / f"{name}.csv", keep=begin)
    saved = time.monotonic()
    for step in tqdm(range(begin, plan.steps), name, total=plan.steps, initial=begin, mininterval=1.0):
        for group in optimizer.param_groups:
            group["lr"] = plan.rate(step)
        optimizer.zero_grad(set_to_none=True)
        value = 0.0
        for part in range(plan.accumulate):
            loss = loss_of(step_seed(plan.seed, step * plan.accumulate + part)) / plan.accumulate
            value += float(loss.detach())
            if not math.isfinite(value):
                raise MotionError(f"{name}: the loss is {value} at step {step}; lower the learning rate and go on")
            loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, plan.clip)
        optimizer.step()
        _average(average, parameters, min(plan.ema, (step + 1) / (step + 10)))
        metrics.add(step, value, plan.rate(step))
        after(step + 1)
        if time.monotonic() - saved > SAVE_EVERY_SECONDS:
            state.save(step + 1)
            saved = time.monotonic()
    if begin < plan.steps:
        state.save(plan.steps)
    _copy(average, parameters)


@torch.no_grad()
def _average(average: list[Tensor], parameters: Iterable[Tensor], decay: float) -> None:
    torch._foreach_lerp_(average, [parameter.detach() for parameter in parameters], 1 - decay)


@torch.no_grad()
def _copy(source: Sequence[Tensor], target: Sequence[Tensor]) -> None:
    torch._foreach_copy_(list(target), list(source))


@dataclass(frozen=True)
class _State:
    """What a stage needs to go on: weights, optimizer and average, saved whole or not at all."""

    path: Path
    module: nn.Module
    optimizer: torch.optim.Optimizer
    average: list[Tensor]

    def restore(self) -> int:
        """Load the saved state, if there is one, and return the step to go on with."""
        if not self.path.exists():
            return 0
        state = torch.load(self.path, weights_only=True)
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        _copy(state["average"], self.average)
        return int(state["step"])

    def save(self, step: int) -> None:
        state = {
            "step": step,
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
        }
        partial = self.path.with_suffix(".partial")
        try:
            torch.save(state, partial)
            partial.replace(self.path)
        except OSError as error:
            raise MotionError(f"cannot save {self.path}: {error.strerror}; free some room and run it again") from error
        finally:
            partial.unlink(missing_ok=True)


class _Metrics:
    """One CSV row a step; rows of steps that will be run again are dropped on resume."""

    def __init__(self, path: Path, keep: int) -> None:
        rows = list(csv.reader(path.read_text().splitlines()))[1 : keep + 1] if path.exists() else []
        self._path = path
        self._began = time.monotonic()
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("step", "loss", "learning_rate", "seconds"), *rows])

    def add(self, step: int, loss: float, rate: float) -> None:
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerow((step, f"{loss:.6g}", f"{rate:.4g}", f"{time.monotonic() - self._began:.2f}"))
