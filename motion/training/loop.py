"""The loop that every recipe runs in: a step is a pure function of the weights and the step's number.

That is what makes a run resumable without a trace: nothing random survives from one step to the next, so a run that
was killed continues with the losses that the unbroken one would have had.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from motion.errors import MotionError
from motion.hosts.standalone import processes
from motion.training.metrics import Metrics

SAVE_EVERY_SECONDS = 60.0


@dataclass(frozen=True)
class Plan:
    """How long and how fast a stage learns.

    The learning rate rises linearly over ``warmup`` steps and falls on a half cosine to a hundredth; ``ema`` is the
    decay of the averaged weights that are kept in the end (0: none are averaged). A step takes the mean gradient of
    ``accumulate`` losses in each process. ``scaled``: losses are multiplied on the way back, by as much as float16
    bears, and gradients divided (Micikevicius et al. 2018, arXiv:1710.03740); a step that overflows is left out.
    """

    steps: int
    learning_rate: float
    warmup: int = 100
    ema: float = 0.0
    weight_decay: float = 0.0
    clip: float = 1.0
    seed: int = 0
    accumulate: int = 1
    scaled: bool = False

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
        after: called behind each step, in the first process, with the number of those that are done.

    Raises:
        MotionError: the loss is no longer a number; the last saved state stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    learner = _Learner(name, module, loss_of, plan)
    state = folder / f"{name}.state.pt"
    begin = learner.restore(state)
    steps = range(begin, plan.steps)
    if learner.team.is_main_process:
        _lead(learner, steps, state, after)
    else:
        for step in steps:
            learner.step(step)
    _copy(learner.average, learner.parameters)


def _lead(learner: _Learner, steps: range, state: Path, after: Callable[[int], None]) -> None:
    """The steps in the first process, which tells and keeps what comes of them."""
    name, plan = learner.name, learner.plan
    saved = time.monotonic()
    with closing(Metrics(state.parent, name, keep=steps.start)) as metrics:
        for step in tqdm(steps, name, total=plan.steps, initial=steps.start, mininterval=1.0):
            metrics.add(step, learner.step(step), plan.rate(step))
            after(step + 1)
            if time.monotonic() - saved > SAVE_EVERY_SECONDS:
                learner.save(state, step + 1)
                saved = time.monotonic()
    if steps:
        learner.save(state, plan.steps)


class _Learner:
    """What is trained, and all that a step changes."""

    def __init__(self, name: str, module: nn.Module, loss_of: Callable[[int], Tensor], plan: Plan) -> None:
        self.name, self.module, self.loss_of, self.plan = name, module, loss_of, plan
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.device = self.parameters[0].device
        self.team = processes.team(self.device)
        self.optimizer = torch.optim.AdamW(self.parameters, lr=plan.learning_rate, weight_decay=plan.weight_decay)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=plan.scaled)
        self.average = [parameter.detach().clone() for parameter in self.parameters]

    def step(self, step: int) -> float:
        """Do a step and return its loss, the mean over all processes."""
        plan = self.plan
        for group in self.optimizer.param_groups:
            group["lr"] = plan.rate(step)
        self.optimizer.zero_grad(set_to_none=True)
        loss = processes.average(self._backward(step), self.device)
        if not math.isfinite(loss):
            raise MotionError(f"{self.name}: the loss is {loss} at step {step}; lower the learning rate and go on")
        processes.average_gradients(self.parameters)
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.parameters, plan.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        _average(self.average, self.parameters, min(plan.ema, (step + 1) / (step + 10)))
        return loss

    def _backward(self, step: int) -> float:
        """This process's share of the losses of one that accumulates as many as all of them: their sum."""
        together, accumulate, loss = self.team.num_processes, self.plan.accumulate, 0.0
        first = step * accumulate * together + self.team.process_index
        for number in range(first, first + accumulate * together, together):
            part = self.loss_of(step_seed(self.plan.seed, number)) / accumulate
            loss += float(part.detach())
            self.scaler.scale(part).backward()  # type: ignore[no-untyped-call]
        return loss

    def restore(self, path: Path) -> int:
        """Load the state saved at ``path``, if there is one, and return the step to go on with."""
        if not path.exists():
            return 0
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        _copy(state["average"], self.average)
        if scale := state.get("scaler"):  # a run may have begun in another precision
            self.scaler.load_state_dict(scale)
        return int(state["step"])

    def save(self, path: Path, step: int) -> None:
        """Keep all that ``step`` and those behind it depend on, whole or not at all."""
        state = {
            "step": step,
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "scaler": self.scaler.state_dict(),
        }
        partial = path.with_suffix(".partial")
        try:
            torch.save(state, partial)
            partial.replace(path)
        except OSError as error:
            raise MotionError(f"cannot save {path}: {error.strerror}; free some room and run it again") from error
        finally:
            partial.unlink(missing_ok=True)


@torch.no_grad()
def _average(average: list[Tensor], parameters: Iterable[Tensor], decay: float) -> None:
    torch._foreach_lerp_(average, [parameter.detach() for parameter in parameters], 1 - decay)


@torch.no_grad()
def _copy(source: Sequence[Tensor], target: Sequence[Tensor]) -> None:
    torch._foreach_copy_(list(target), list(source))
