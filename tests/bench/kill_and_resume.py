"""Kill -9 at random moments, the same command again, and whether the clip is the unbroken run's bit by bit.

    python tests/bench/kill_and_resume.py             ten times, the bundled models, 40 frames in windows

Each trial is a process of its own that is killed after a random part of the time that the whole clip takes, while
models load, in the middle of a step, while the state is written or frames are encoded.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from motion import video
from motion.hosts.standalone.work import FILE

ROOT = Path(__file__).parents[2]
CLIP = "--demo --frames 40 --steps 12 --seed 5 --sampler euler_a --device cpu --zoom 1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, equal = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = time.perf_counter()
        render(folder / "whole.png").wait()
        whole, took = video.read(folder / "whole.png").frames, time.perf_counter() - start
        for trial in range(options.trials):
            clip, work = folder / f"{trial}.png", folder / f"work-{trial}"
            moment = rng.uniform(0.1, 0.95) * took
            killed, kept = cut(clip, work, moment)
            render(clip, work).wait()
            same = killed and np.array_equal(video.read(clip).frames, whole)
            equal += same
            sys.stdout.write(f"after {moment:.1f} of {took:.1f} s ({kept}): {'equal' if same else 'NOT equal'}\n")
    sys.stdout.write(f"{equal} of {options.trials} bit-equal\n")


def render(out: Path, work: Path | None = None) -> subprocess.Popen[bytes]:
    """The command in a process of its own."""
    kept = ["--work", str(work)] if work is not None else []
    command = [sys.executable, "-m", "motion", "render", *CLIP.split(), "--out", str(out), *kept]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def cut(out: Path, work: Path, moment: float) -> tuple[bool, str]:
    """Kill the command after so many seconds; whether it was still running, and what it left."""
    process = render(out, work)
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    left = "a state kept" if (work / FILE).is_file() else "nothing kept yet"
    return process.wait() == -signal.SIGKILL, left


if __name__ == "__main__":
    main()
