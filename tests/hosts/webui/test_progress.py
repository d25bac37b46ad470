"""The progress bar within a step, seen as the host's page asks for it."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from motion.hosts.webui import progress
from motion.hosts.webui.progress import StepProgress
from motion.sampling.animation import attach_windows
from motion.sampling.arrangement import Arrangement
from motion.sampling.windows import Windows

STEPS, LONG, LENGTH = 4, 10, 4


class UNet(nn.Module):
    """Notes what the host would tell the page while it computes."""

    def __init__(self, state: Any) -> None:
        super().__init__()
        self.state = state
        self.told: list[float] = []

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        self.told.append(self.state.sampling_step)
        return x


class Sampler:
    """Counts as the hosts do, a step behind, or with it (ersatzForge)."""

    def __init__(self, state: Any, ahead: int) -> None:
        self.state, self.ahead = state, ahead

    def callback_state(self, step: dict[str, int]) -> None:
        self.state.sampling_step = step["i"] + self.ahead


@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.parametrize("calls", [1, 2])
def test_it_moves_window_by_window_and_never_back(monkeypatch: pytest.MonkeyPatch, ahead: int, calls: int) -> None:
    """However many calls a step has, in each of two passes; between the calls the host finds its own count."""
    state = SimpleNamespace(sampling_step=0)
    monkeypatch.setattr(progress, "host_module", {"shared": SimpleNamespace(state=state)}.__getitem__)
    windows = Windows(LONG, LENGTH, 1, schedule="static")
    parts = len(windows.at(0))
    within, unet, sampler = StepProgress(parts), UNet(state), Sampler(state, ahead)
    with ExitStack() as undo:
        undo.enter_context(attach_windows(unet, Arrangement(windows, pause=within.part_begins)))
        within.follow_unet(unet, undo)
        within.follow_sampler(sampler)
        for _ in range(2):
            unet.told.clear()
            state.sampling_step = 0
            for step in range(STEPS):
                for _ in range(calls):
                    own = state.sampling_step
                    unet(torch.zeros(LONG, 4, 1, 1), torch.tensor(900 - step))
                    assert state.sampling_step == own
                sampler.callback_state({"i": step})
            told = unet.told
            assert len(told) == STEPS * calls * parts and told == sorted(told)
            assert [told[step * calls * parts] for step in range(STEPS)] == list(range(STEPS))
            second = told[calls * parts : 2 * calls * parts]
            assert second == pytest.approx([1 + part / (calls * parts) for part in range(calls * parts)])
    assert not unet._forward_hooks
