"""What the attention's scale, effects and curves do to clips of the bundled models, as figures.

    python tests/bench/quality_curves.py motion --clips 8
    python tests/bench/quality_curves.py cost --clips 5

``motion``: how far the shape goes in a clip, in pixels, by a line fitted to its track, the mean over the clips; how
much neighbouring frames differ, of 255; the share of clips in which the shape is found. ``cost``: seconds of a clip
over those at plain numbers, the least of the repetitions.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

import motion
from motion.demo.detector import changes, read_clip
from motion.demo.evaluate import demo_clip
from motion.demo.world import all_scenes
from motion.fields.curve import Value
from motion.hosts.standalone import Networks, Standalone
from motion.weights.bundled import DEMO, WEIGHTS

SEED = 4000
SCALES: dict[str, dict[str, Any]] = {
    **{f"attention scale {scale:g}": {"attention_scale": scale} for scale in (1.5, 1, 0.8, 0.6, 0.4, 0.2, 0)},
    **{f"motion scale {scale:g}": {"scale": scale} for scale in (0.8, 0.6)},
    "up blocks alone": {"block_effects": "down:0"},
    "down blocks alone": {"block_effects": "up:0"},
}
COSTS: dict[str, tuple[dict[str, Any], Value]] = {
    "numbers": ({"scale": 0.9}, 0.7),
    "constant curves": ({"scale": "0: 0.9, -1: 0.9"}, "0: 0.7, -1: 0.7"),
    "motion scale over frames": ({"scale": "0: 1, -1: 0.8"}, 0.7),
    "LoRA over frames": ({"scale": 0.9}, "0: 1, -1: 0.4"),
}
"""The settings, and the weight of a motion LoRA."""


def main() -> None:
    tables = {"motion": measure_motion, "cost": measure_cost}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=tables)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    tables[options.table](options, Standalone.open(DEMO["checkpoint"], options.device))


def measure_motion(options: argparse.Namespace, host: Standalone) -> None:
    module = motion.load(DEMO["motion"])
    scenes = random.Random(SEED).sample(all_scenes(), options.clips)
    tell(f"{'':22} {'pixels':>7} {'change':>7} {'found':>6}")
    for name, settings in SCALES.items():
        far, change, found = [], [], 0
        for number, scene in enumerate(scenes):
            clip = replace(demo_clip(scene.caption, SEED + number, steps=options.steps), **settings)
            frames = host.render(clip, module)
            gone = changes(read_clip(frames))
            change.append(np.abs(np.diff(frames.astype(float), axis=0)).mean())
            if gone is not None:
                far.append(float(np.linalg.norm(gone[:2])))
                found += 1
        tell(f"{name:22} {statistics.mean(far or [0]):7.1f} {statistics.mean(change):7.2f} {found / len(scenes):6.0%}")


def measure_cost(options: argparse.Namespace, host: Standalone) -> None:
    module, lora = motion.load(DEMO["motion"]), motion.lora.load(WEIGHTS / "sprites-zoom-in.safetensors")
    clip = demo_clip("a red circle moving right on a navy background", SEED, steps=options.steps)
    seconds: dict[str, list[float]] = {name: [] for name in COSTS}
    drawn = {}
    for _ in range(options.clips):
        for name, (settings, weight) in COSTS.items():
            begun = time.perf_counter()
            drawn[name] = host.render(replace(clip, **settings), Networks(module, attached=[(lora, weight)]))
            seconds[name].append(time.perf_counter() - begun)
    least = min(seconds["numbers"])
    for name, found in seconds.items():
        same = np.array_equal(drawn[name], drawn["numbers"])
        tell(f"{name:26} {min(found):7.2f} s {min(found) / least:6.2f}   {'bit-equal' if same else 'other frames'}")


def tell(line: str) -> None:
    """Show it now: the next one may take minutes."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
