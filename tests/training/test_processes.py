"""Processes that train together are one process that accumulates as many losses. This file is also their program."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from motion.training.loop import Plan, train
from tests.support.teams import start_team


def trained(folder: Path, accumulate: int) -> tuple[dict[str, Tensor], list[int]]:
    """A line fitted in `folder`: its weights, and what was told behind each step."""
    torch.manual_seed(0)
    line = nn.Linear(4, 1)

    def loss_of(seed: int) -> Tensor:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(seed))
        return (line(x) - x.sum(dim=1, keepdim=True)).square().mean()

    told: list[int] = []
    plan = Plan(steps=4, learning_rate=0.1, warmup=1, ema=0.5, accumulate=accumulate)
    train("line", line, loss_of, plan, folder, told.append)
    return line.state_dict(), told


def test_two_processes(tmp_path: Path) -> None:
    started = start_team(2, lambda rank: [__file__, tmp_path / f"run{rank}", tmp_path / f"{rank}.pt"])
    told = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0], told
    (first, told), (second, untold) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert (told, untold) == ([1, 2, 3, 4], [])
    assert sorted(path.name for path in (tmp_path / "run0").iterdir()) == ["line.csv", "line.state.pt"]
    assert not any((tmp_path / "run1").iterdir())

    alone, _ = trained(tmp_path / "alone", accumulate=2)
    for name, tensor in alone.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], tensor, rtol=1e-5, atol=1e-6)
    losses = [
        [float(row.split(",")[1]) for row in (tmp_path / run / "line.csv").read_text().splitlines()[1:]]
        for run in ("run0", "alone")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


if __name__ == "__main__":
    torch.save(trained(Path(sys.argv[1]), accumulate=1), sys.argv[2])
