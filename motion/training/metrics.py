"""What a stage writes down of its steps."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any


class Metrics:
    """A row of ``<name>.csv`` a step and, where TensorBoard is installed, the same in ``tensorboard/<name>``.

    The first ``keep`` steps of a run that goes on stay; those that will be run again are dropped.
    """

    def __init__(self, folder: Path, name: str, keep: int) -> None:
        self._path = folder / f"{name}.csv"
        self._began = time.monotonic()
        self._board = _board(folder / "tensorboard" / name, keep)
        kept = self._path.read_text().splitlines() if self._path.exists() else []
        with self._path.open("w", newline="") as file:
            rows = list(csv.reader(kept))[1 : keep + 1]
            csv.writer(file).writerows([("step", "loss", "learning_rate", "seconds"), *rows])

    def add(self, step: int, loss: float, rate: float) -> None:
        """Write down a step, counted from 0."""
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerow((step, f"{loss:.6g}", f"{rate:.4g}", f"{time.monotonic() - self._began:.2f}"))
        if self._board is not None:
            self._board.add_scalar("loss", loss, step)
            self._board.add_scalar("learning_rate", rate, step)

    def close(self) -> None:
        """Bring everything to the disk."""
        if self._board is not None:
            self._board.close()


def _board(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step)
