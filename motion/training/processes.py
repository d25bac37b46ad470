"""Processes that train together, one for each GPU, as ``accelerate launch`` and ``torchrun`` start them.

Each computes losses of its own, their gradients are averaged, and the first process alone writes. A process by itself
is a team of one, for which all of this does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import nn


def team(device: torch.device | str) -> Any:
    """This process's place among the others (accelerate's ``PartialState``), who talk through what ``device`` has.

    The first call of a process settles how; on GPUs it also makes its own the current one, which "cuda" then means.
    """
    return PartialState(cpu=torch.device(device).type == "cpu")


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
