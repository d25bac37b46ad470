"""Processes that work together, as they are started; and threads that stand for them."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any, TypeVar

from motion.sampling.sharing import Sharing

T = TypeVar("T")
ROOT = Path(__file__).parents[2]


def start_team(size: int, arguments_of: Callable[[int], Sequence[object]]) -> list[subprocess.Popen[str]]:
    """``size`` processes of Python that find each other, each with the arguments of its rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    team = {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1"}
    team |= {"MASTER_PORT": str(port), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, *map(str, arguments_of(rank))],
            env={**os.environ, **team, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]


def in_threads(size: int, work: Callable[[Sharing], T]) -> list[T]:
    """What comes of ``work`` in each of ``size`` threads that share it."""
    barrier, table = Barrier(size, timeout=60), [b""] * size

    def gather(rank: int, value: Any) -> list[Any]:
        table[rank] = pickle.dumps(value)
        barrier.wait()
        found = list(map(pickle.loads, table))
        barrier.wait()
        return found

    def member(rank: int) -> T:
        try:
            return work(Sharing(rank, size, lambda value: gather(rank, value)))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(member, range(size)))
