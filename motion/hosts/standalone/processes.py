"""Processes that work together, one for each GPU, as ``accelerate launch`` and ``torchrun`` start them.

In training each computes losses of its own and their gradients are averaged; of a clip that is drawn each computes some
of its windows. The first process alone writes. A process by itself is a team of one, for which this does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object, reduce
from torch import nn

from motion.errors import MotionError
from motion.sampling.sharing import ALONE, Sharing

PATIENCE = timedelta(days=7)
"""How long a process waits for another that lives: while one reads data or writes a long clip, the others have rest."""


def team(device: torch.device | str) -> Any:
    """This process's place among the others (accelerate's ``PartialState``), who talk through what ``device`` has.

    The first call of a process settles how; on GPUs it also makes its own the current one, which "cuda" then means.
    """
    return PartialState(cpu=torch.device(device).type == "cpu", timeout=PATIENCE)


@contextmanager
def share_work(device: torch.device) -> Iterator[Sharing]:
    """How this process shares the work on a clip with the others of its team.

    Where it leads, those that serve it are let go at the end. Raises MotionError in the middle if another has gone.
    """
    place = team(device)
    if place.num_processes == 1:
        yield ALONE
        return
    sharing = Sharing(place.process_index, place.num_processes, _gather)
    yield sharing
    if sharing.leads:
        sharing.end()
    place.destroy_process_group()


def _gather(value: Any) -> list[Any]:
    """What each process has, in the order of their ranks."""
    try:
        return gather_object([value])
    except RuntimeError as error:  # gloo's and NCCL's own words for it are many
        raise MotionError(
            "another of the processes that draw this clip has ended, and this one ends with it: start them again; "
            "with --work they go on at the last whole step"
        ) from error


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Give every process the mean of the gradients of all."""
    if PartialState().num_processes == 1:
        return
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad = reduce(parameter.grad, "mean")


def average(value: float, device: torch.device) -> float:
    """The mean of all processes' values."""
    if PartialState().num_processes == 1:
        return value
    return float(reduce(torch.tensor(value, device=device), "mean"))
