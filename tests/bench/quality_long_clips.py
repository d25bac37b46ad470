"""How well long clips of the bundled models hold together, beside clips as long as the module was trained on.

    python tests/bench/quality_long_clips.py --clips 8 --frames 64

``constant``: one shape in one shade in all frames. ``in 16``: the same in 16 frames side by side, of all such.
``direction``: the way the caption says, over the whole clip, and in 16 frames side by side. ``border``: the mean
distance between neighbouring frames across the borders of static windows over that between all others. ``seam``: the
distance from the last frame to the first over the mean between neighbours, and ``within`` whether it is at most the
largest between neighbours (closed loops).
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

import motion
from motion.demo.detector import direction, is_constant, read_clip
from motion.demo.evaluate import demo_clip
from motion.demo.world import FRAMES, all_scenes
from motion.hosts.standalone import Standalone
from motion.weights.bundled import DEMO

HELD_TOGETHER = {"context_engine": "attention", "context_schedule": "composite", "context_stride": 3}
TOGETHER = 10_000
"""Stands for the frames of the clip."""
RUNS: dict[str, dict[str, Any]] = {
    "16 frames": {"frames": FRAMES},
    "denoiser": {},
    "denoiser, independent noise": {"noise": "independent"},
    "denoiser, static": {"context_schedule": "static"},
    "denoiser, composite": {"context_schedule": "composite"},
    "denoiser, stride 3": {"context_stride": 3},
    "attention": {"context_engine": "attention"},
    "attention, stride 3": {"context_engine": "attention", "context_stride": 3},
    "attention, composite": {"context_engine": "attention", "context_schedule": "composite"},
    "attention, independent noise": {"context_engine": "attention", "noise": "independent"},
    "attention, composite, stride 3": HELD_TOGETHER,
    "attention, composite, stride 3, steady": {**HELD_TOGETHER, "steady_colours": 1.0},
    "denoiser, fuse random": {"context_fuse": "random"},
    "denoiser, fuse gauss": {"context_fuse": "gauss"},
    "denoiser, fuse sawtooth": {"context_fuse": "sawtooth"},
    "denoiser, composite until 0.4, then static": {"context_schedule": "composite", "context_until": 0.4},
    "views in windows of 32": {"context_length": 32, "view_length": FRAMES},
    "table stretched to all frames": {"context_length": TOGETHER, "position_length": TOGETHER},
    "table of 12 stretched to windows of 16": {"position_cap": 12, "position_length": FRAMES},
    "denoiser, closed": {"loop": "closed"},
    "attention, closed": {"loop": "closed", "context_engine": "attention"},
}
MARKS = ("constant", "in 16", "direction", "in 16 ", "border", "seam", "within", "seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--cfg", type=float, default=5, help="guidance; 5 was chosen with --trained")
    parser.add_argument("--trained", action="store_true", help="captions that training saw")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", nargs="*", default=list(RUNS), help="rows of the table")
    options = parser.parse_args()
    host, module = Standalone.open(DEMO["checkpoint"], options.device), motion.load(DEMO["motion"])
    scenes = [scene for scene in all_scenes() if scene.held_out is not options.trained]
    random.Random(0).shuffle(scenes)  # captions at even distances would share a direction
    scenes = scenes[: options.clips]
    sys.stdout.write(f"{len(scenes)} clips of {options.frames} frames, {options.steps} steps, cfg {options.cfg:g}\n\n")
    sys.stdout.write(f"| | {' | '.join(MARKS)} |\n|{'---|' * (1 + len(MARKS))}\n")
    for name in options.only:
        started, marks = time.perf_counter(), []
        for number, scene in enumerate(scenes):
            clip = demo_clip(scene.caption, 1000 + number, options.frames)
            clip = replace(clip, steps=options.steps, cfg=options.cfg)
            asked = {key: options.frames if value == TOGETHER else value for key, value in RUNS[name].items()}
            marks.append(judge(host.render(replace(clip, **asked), module), scene.direction))
        means = [*np.mean(marks, axis=0), (time.perf_counter() - started) / len(scenes)]
        sys.stdout.write(f"| {name} | {' | '.join(f'{mean:.2f}' for mean in means)} |\n")
        sys.stdout.flush()


def judge(frames: Any, asked: str) -> Sequence[float]:
    """The marks of one clip, uint8 ``[frames, h, w, 3]``."""
    sprites = read_clip(frames)
    parts = [sprites[start : start + FRAMES] for start in range(len(sprites) - FRAMES + 1)]
    steps = np.abs(np.diff(frames.astype(float), axis=0)).mean(axis=(1, 2, 3))
    at_border = np.arange(1, len(frames)) % (FRAMES - 4) == 0
    seam = np.abs(frames[-1].astype(float) - frames[0]).mean()
    return (
        is_constant(sprites),
        float(np.mean([is_constant(part) for part in parts])),
        direction(sprites) == asked,
        float(np.mean([direction(part) == asked for part in parts])),
        steps[at_border].mean() / steps[~at_border].mean(),
        seam / steps.mean(),
        seam <= steps.max(),
    )


if __name__ == "__main__":
    main()
