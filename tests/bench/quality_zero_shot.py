"""How well the bundled image model moves without a motion module, on captions that its training never saw.

    python tests/bench/quality_zero_shot.py --clips 40

Text2Video-Zero's field goes the way that the caption says, 2 pixels a frame (strength 16), from t 401 to 441: a latent
cell is 8 pixels here, so shapes jump. ``constant``: one shape in one shade in all frames. ``along``: the way of the
field. ``path``: the mean distance in pixels from where the field leads the first frame's shape. ``spread``: the mean
distance of a frame's colour from its clip's mean, of 255. Beside it: stills of noises of their own, with ordinary
attention and with attention to all frames.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from motion.demo.detector import direction, is_constant, read_clip
from motion.demo.evaluate import demo_clip
from motion.demo.world import DIRECTIONS, Scene, all_scenes
from motion.hosts.standalone import Standalone
from motion.weights.bundled import DEMO

FRAMES, STRENGTH, CELL = 8, 16, 2.0
"""``STRENGTH`` is ``CELL`` pixels in pictures of 64."""
RUNS: dict[str, dict[str, Any]] = {
    "field, first frame": {"zero_shot": True, "field_t0": 401, "field_t1": 441},
    "field, ordinary attention": {"zero_shot": True, "field_t0": 401, "field_t1": 441, "cross_frame": "none"},
    "field, 881 to 921": {"zero_shot": True, "field_t0": 881, "field_t1": 921},
    "own noises": {},
    "own noises, all frames": {"cross_frame": "full"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--runs", nargs="*", default=list(RUNS))
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    host = Standalone.open(Path(DEMO["checkpoint"]), device=options.device)
    scenes = [scene for scene in all_scenes() if scene.held_out]
    sys.stdout.write("| run | constant | along | path | spread |\n|---|---|---|---|---|\n")
    for name in options.runs:
        found = [measured(host, scenes[n % len(scenes)], n, RUNS[name]) for n in range(options.clips)]
        constant, along, path, spread = np.array(found, float).T
        figures = f"{constant.mean():.0%} | {along.mean():.0%} | {np.nanmean(path):.1f} px | {np.nanmean(spread):.0f}"
        sys.stdout.write(f"| {name} | {figures} |\n")
        sys.stdout.flush()


def measured(host: Standalone, scene: Scene, seed: int, settings: dict[str, Any]) -> tuple[bool, bool, float, float]:
    way = np.array(DIRECTIONS[scene.direction])
    field = {"field_x": -STRENGTH * float(way[0]), "field_y": -STRENGTH * float(way[1])}
    clip = replace(demo_clip(scene.caption, 1000 + seed, FRAMES), **field, **settings)
    sprites = read_clip(host.render(clip))
    there = [(frame, sprite) for frame, sprite in enumerate(sprites) if sprite is not None]
    if not there:
        return False, False, float("nan"), float("nan")
    led = [np.array(there[0][1].centroid) + CELL * (frame - there[0][0]) * way for frame, _ in there]
    path = np.mean([np.linalg.norm(sprite.centroid - at) for (_, sprite), at in zip(there, led, strict=True)])
    colours = np.array([sprite.rgb for _, sprite in there])
    spread = np.linalg.norm(colours - colours.mean(0), axis=1).mean()
    return is_constant(sprites), direction(sprites) == scene.direction, float(path), float(spread)


if __name__ == "__main__":
    main()
