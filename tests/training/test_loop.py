"""A run that was interrupted ends as the unbroken one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from motion.errors import MotionError
from motion.training.loop import Plan, train

PLAN = Plan(steps=12, learning_rate=0.1, warmup=2, ema=0.9, weight_decay=0.01)


class Killed(Exception):
    """Stands in for the power going out."""


def regression(module: nn.Linear, stop: int | None = None) -> Callable[[int], Tensor]:
    steps = iter(range(PLAN.steps))

    def loss_of(seed: int) -> Tensor:
        if next(steps) == stop:
            raise Killed
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(seed))
        return (module(x) - x.sum(dim=1, keepdim=True)).square().mean()

    return loss_of


def fresh() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(4, 1)


def rows(folder: Path) -> list[list[str]]:
    return [line.split(",")[:3] for line in (folder / "line.csv").read_text().splitlines()]


@pytest.mark.parametrize(("stop", "scaled"), [(1, False), (5, False), (11, False), (5, True)])
def test_a_killed_run_goes_on_bit_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int, scaled: bool
) -> None:
    monkeypatch.setattr("motion.training.loop.SAVE_EVERY_SECONDS", -1.0)
    unbroken, resumed, plan = fresh(), fresh(), replace(PLAN, scaled=scaled)
    train("line", unbroken, regression(unbroken), plan, tmp_path / "unbroken")
    with pytest.raises(Killed):
        train("line", resumed, regression(resumed, stop), plan, tmp_path / "resumed")
    again = fresh()
    train("line", again, regression(again), plan, tmp_path / "resumed")
    assert all(torch.equal(a, b) for a, b in zip(unbroken.parameters(), again.parameters(), strict=True))
    assert rows(tmp_path / "unbroken") == rows(tmp_path / "resumed")


def test_a_finished_run_is_only_read(tmp_path: Path) -> None:
    first, second = fresh(), fresh()
    train("line", first, regression(first), PLAN, tmp_path)
    train("line", second, regression(second, stop=0), PLAN, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_frozen_parameters_stay(tmp_path: Path) -> None:
    module = nn.Sequential(fresh(), nn.Linear(1, 1))
    frozen = module[0].requires_grad_(False)
    before = [parameter.clone() for parameter in frozen.parameters()]
    train("line", module, lambda seed: module(torch.ones(1, 4)).square().mean(), PLAN, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(before, frozen.parameters(), strict=True))


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("motion.training.loop.SAVE_EVERY_SECONDS", -1.0)
    module = fresh()
    losses = iter([1.0, float("nan")])
    with pytest.raises(MotionError, match="line: the loss is nan at step 1"):
        train("line", module, lambda seed: module.weight.sum() * next(losses), PLAN, tmp_path)
    assert torch.load(tmp_path / "line.state.pt", weights_only=True)["step"] == 1


def test_the_rate_rises_and_falls() -> None:
    rates = [PLAN.rate(step) for step in range(PLAN.steps)]
    assert max(rates) == pytest.approx(PLAN.learning_rate, rel=0.05)
    assert rates[0] < rates[1] > rates[-1] > 0


def test_scaled_losses_lead_to_the_same_weights(tmp_path: Path) -> None:
    """Scales are powers of two, so in float32 nothing is rounded."""
    plain, scaled = fresh(), fresh()
    train("line", plain, regression(plain), PLAN, tmp_path / "plain")
    train("line", scaled, regression(scaled), replace(PLAN, scaled=True), tmp_path / "scaled")
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), scaled.parameters(), strict=True))


def test_a_step_that_overflows_is_left_out(tmp_path: Path) -> None:
    module = fresh()
    before = module.weight.detach().clone()
    plan = Plan(steps=1, learning_rate=0.1, warmup=1, scaled=True)
    train("line", module, lambda seed: module.weight.sum() * 1e37, plan, tmp_path)
    assert torch.equal(module.weight, before)
    assert torch.load(tmp_path / "line.state.pt", weights_only=True)["scaler"]["scale"] == 2.0**15


@pytest.mark.parametrize("installed", [True, False])
def test_tensorboard_is_told_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    told: list[tuple[str, int]] = []

    class Writer:
        def __init__(self, folder: str, purge_step: int) -> None:
            assert (Path(folder), purge_step) == (tmp_path / "tensorboard" / "line", 0)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            told.append((name, step))

        def close(self) -> None:
            told.append(("closed", -1))

    board: Any = SimpleNamespace(SummaryWriter=Writer) if installed else None
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", board)
    module = fresh()
    train("line", module, regression(module), replace(PLAN, steps=1), tmp_path)
    assert told == ([("loss", 0), ("learning_rate", 0), ("closed", -1)] if installed else [])
    assert len(rows(tmp_path)) == 2
