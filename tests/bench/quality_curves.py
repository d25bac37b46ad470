"""What the attention's scale, effects and curves do to clips of the bundled models, as figures.

    python tests/bench/quality_curves.py motion --clips 8
    OMP_NUM_THREADS=1 python tests/bench/quality_curves.py cost --clips 16

``motion``: how far the shape goes in a clip, in pixels, by a line fitted to its track, the mean over the clips; how
much neighbouring frames differ, of 255; the share of clips in which the shape is found. ``cost``: a call of a small
UNet with motion module and LoRA, in milliseconds of the processor, the least of so many, and over plain numbers.
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
import torch
from diffusers import UNet2DConditionModel

sys.path.insert(0, str(Path(__file__).parents[2]))

import motion
from motion.demo.detector import changes, read_clip
from motion.demo.evaluate import demo_clip
from motion.demo.world import FRAMES, all_scenes
from motion.fields.curve import Value
from motion.hosts.standalone import Standalone
from motion.sampling.arrangement import Arrangement
from motion.sampling.effect import MotionEffect
from motion.sampling.windows import Windows
from motion.weights.bundled import DEMO
from tests.sampling.test_lora import motion_lora
from tests.support import small

SEED = 4000
SCALES: dict[str, dict[str, Any]] = {
    **{f"attention scale {scale:g}": {"attention_scale": scale} for scale in (1.5, 1, 0.8, 0.6, 0.4, 0.2, 0)},
    **{f"motion scale {scale:g}": {"scale": scale} for scale in (0.8, 0.6)},
    "up blocks alone": {"block_effects": "down:0"},
    "down blocks alone": {"block_effects": "up:0"},
}
COSTS: dict[str, tuple[Value, Value]] = {
    "numbers": (0.9, 0.7),
    "constant curves": ("0: 0.9, -1: 0.9", "0: 0.7, -1: 0.7"),
    "motion scale over frames": ("0: 1, -1: 0.8", 0.7),
    "LoRA over frames": (0.9, "0: 1, -1: 0.4"),
}
"""The motion scale, and the weight of a motion LoRA."""


def main() -> None:
    tables = {"motion": measure_motion, "cost": measure_cost}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=tables)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    tables[options.table](options)


def measure_motion(options: argparse.Namespace) -> None:
    host, module = Standalone.open(DEMO["checkpoint"], options.device), motion.load(DEMO["motion"])
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


def measure_cost(options: argparse.Namespace) -> None:
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=small.WIDTHS, cross_attention_dim=small.TEXT, attention_head_dim=8
    )
    torch.manual_seed(0)
    model, inputs = small.random_model(), small.batch(FRAMES)
    lora, seconds, found = motion_lora(model), {name: list[float]() for name in COSTS}, {}
    for _ in range(options.clips):
        for name, (effect, weight) in COSTS.items():
            arrangement = Arrangement(Windows(FRAMES))
            with (
                torch.no_grad(),
                motion.attach(unet.eval(), model, FRAMES, 1.0, arrangement, MotionEffect(effect, frames=FRAMES)),
                motion.lora.attach(unet, model, [(lora, weight)], FRAMES, arrangement),
            ):
                small.run(unet, inputs)
                begun = time.process_time()
                found[name] = small.run(unet, inputs)
                seconds[name].append(time.process_time() - begun)
    least = min(seconds["numbers"])
    for name, spent in seconds.items():
        same = "bit-equal" if torch.equal(found[name], found["numbers"]) else ""
        tell(f"{name:26} {1000 * min(spent):7.1f} ms {min(spent) / least:6.2f}   {same}")


def tell(line: str) -> None:
    """Show it now: the next one may take minutes."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
