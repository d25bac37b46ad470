"""What the step cache does to clips of the bundled models, on captions that their training never saw.

    python tests/bench/quality_cache.py
    python tests/bench/quality_cache.py --state cache.json        to go on where it was stopped

``direction``: the shape goes where the caption says. ``constant``: one shape in one shade in all frames. ``dB``: the
peak signal-to-noise ratio to the same clip without the cache, the mean over the clips and the worst.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from quality_guidance import decibels, say

import motion
from motion.demo.detector import direction, is_constant, read_clip
from motion.demo.evaluate import demo_clip
from motion.demo.world import all_scenes
from motion.hosts.standalone import Standalone
from motion.settings.step_cache import CACHES
from motion.weights.bundled import DEMO

SEED = 3000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--modes", nargs="*", default=list(CACHES), choices=CACHES, help="rows of the table, off first")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--state", type=Path, help="file that keeps the figures of the clips that are done")
    options = parser.parse_args()
    host, module = Standalone.open(DEMO["checkpoint"], options.device), motion.load(DEMO["motion"])
    scenes = [scene for scene in all_scenes() if scene.held_out]
    random.Random(0).shuffle(scenes)  # captions at even distances would share a direction
    found: dict[str, list[list[float]]] = {mode: [] for mode in options.modes}
    if options.state is not None and options.state.exists():
        found = json.loads(options.state.read_text())
    done = min(map(len, found.values()))
    for number, scene in enumerate(scenes[done : options.clips], done):
        clip, plain = demo_clip(scene.caption, SEED + number, steps=options.steps), None
        for mode in options.modes:
            frames = host.render(replace(clip, cache=mode), module)
            plain = frames if plain is None else plain
            sprites = read_clip(frames)
            with np.errstate(divide="ignore"):
                figures = direction(sprites) == scene.direction, is_constant(sprites), decibels(frames, plain)
            found[mode].append(list(map(float, figures)))
        sys.stderr.write(f"{number + 1} of {options.clips}: {[rows[-1] for rows in found.values()]}\n")
        if options.state is not None:
            options.state.write_text(json.dumps(found))
    say(f"{min(map(len, found.values()))} clips", "direction", "constant", "mean dB", "worst dB")
    for mode, rows in found.items():
        going, constant, near = np.array(rows).T
        say(mode, f"{going.mean():.0%}", f"{constant.mean():.0%}", float(near.mean()), float(near.min()))


if __name__ == "__main__":
    main()
