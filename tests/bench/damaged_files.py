"""The reader on damaged files for some minutes, by hand: python -m tests.bench.damaged_files SECONDS [SEED]

Each batch is a process of its own, so that a crash in a decoder is seen; the slowest file is told.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np

from motion.errors import MotionError
from motion.video import open_clip
from tests.support.damaged import damage, whole_files

BATCH = 500


def batch(seed: int) -> None:
    rng = np.random.default_rng(seed)
    slowest = (0.0, "")
    with tempfile.TemporaryDirectory() as folder:
        whole = whole_files(Path(folder))
        for number in range(BATCH):
            suffix = list(whole)[number % len(whole)]
            altered = [(float(rng.random()), int(rng.integers(256))) for _ in range(rng.integers(8))]
            path = Path(folder) / f"damaged{suffix}"
            path.write_bytes(damage(whole[suffix], float(rng.choice([1.0, rng.random()])), altered))
            start = time.perf_counter()
            try:
                for _ in islice(open_clip(path).frames(), 50):
                    pass
            except MotionError:
                pass
            slowest = max(slowest, (time.perf_counter() - start, f"seed {seed}, file {number} ({suffix})"))
    sys.stdout.write(f"{slowest[0]:.2f} s at most: {slowest[1]}\n")


def main() -> None:
    if len(sys.argv) == 4:
        batch(int(sys.argv[2]))
        return
    seconds, seed = float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        command = [sys.executable, "-m", "tests.bench.damaged_files", "0", str(seed), "batch"]
        done = subprocess.run(command, check=False)
        if done.returncode:
            sys.exit(f"seed {seed} ended with {done.returncode}")
        seed += 1


if __name__ == "__main__":
    main()
