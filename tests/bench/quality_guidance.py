"""What techniques do to clips of the bundled models, as figures.

    python tests/bench/quality_guidance.py inversion --clips 20
    python tests/bench/quality_guidance.py held --clips 20
    python tests/bench/quality_guidance.py temporal --clips 20
    python tests/bench/quality_guidance.py cost

``inversion``: the peak signal-to-noise ratio of clips that were inverted and drawn again without guidance, the mean
over the clips and the worst. ``held``: frames 0 and 15 are given; how far the shape is, in pixels, from where the
world's own clip has it. ``temporal``: shares of clips with one shape in one shade; ``wobble``, how far the shape's
place is from its own path, a parabola, in pixels; ``shade``, how far its colour is from its mean, of 255. ``cost``:
seconds of a clip over those without a technique, in the same repetitions.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

import motion
import sparsectrl
from motion.demo.detector import Sprite, is_constant, read_clip
from motion.demo.evaluate import demo_clip
from motion.demo.world import FRAMES, Scene, all_scenes, draw_clip
from motion.hosts.controls import Control
from motion.hosts.standalone import Networks, Standalone
from motion.settings.settings import Clip
from motion.weights.bundled import DEMO, WEIGHTS

RGB = WEIGHTS / "sprites-sparsectrl-rgb.safetensors"
SEED = 3000
INVERSIONS: dict[str, tuple[bool, int, int]] = {
    "no module, 25 steps": (False, 25, 1),
    "no module, 100 steps": (False, 100, 1),
    "no module, 25 steps, 3 evaluations": (False, 25, 3),
    "module, 25 steps": (True, 25, 1),
}
"""With the module or without, steps, evaluations in each."""
HELD: dict[str, tuple[bool, dict[str, Any]]] = {
    "noised": (False, {"hold_keys": "noised", "key_scale": 0.0}),
    "clean": (False, {"hold_keys": "clean", "key_scale": 0.0}),
    "noised, SparseCtrl": (True, {"hold_keys": "noised"}),
    "clean, SparseCtrl": (True, {"hold_keys": "clean"}),
    "SparseCtrl alone": (True, {}),
}
"""Whether SparseCtrl is shown the keys, and the settings."""
WEIGHTS_OF_TIME = (0.0, 0.5, 1.0, 1.5)
LOST = 32.0
"""Pixels that a shape counts that is not found."""
COSTS: dict[str, dict[str, Any]] = {
    "none": {},
    "CFG over frames": {"cfg_last": 9.0},
    "oscillating guidance": {"cfg_low": 2.0},
    "RescaleCFG": {"rescale_cfg": 0.7},
    "dynamic thresholding": {"threshold": 0.995},
    "temporal guidance": {"temporal_guidance": 1.5},
    "held key frames": {"hold_keys": "clean", "key_scale": 0.0},
}


def main() -> None:
    tables = {"inversion": inversion, "held": held, "temporal": temporal, "cost": cost}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=tables)
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", nargs="*", help="rows of the table")
    options = parser.parse_args()
    host = Standalone.open(DEMO["checkpoint"], options.device)
    scenes = [scene for scene in all_scenes() if scene.held_out]
    random.Random(0).shuffle(scenes)  # captions at even distances would share a direction
    tables[options.table](host, scenes[: options.clips], options)


def say(*cells: object) -> None:
    sys.stdout.write(
        "| " + " | ".join(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |\n"
    )
    sys.stdout.flush()


def inversion(host: Standalone, scenes: list[Scene], options: argparse.Namespace) -> None:
    module = motion.load(DEMO["motion"])
    say(f"{len(scenes)} clips", "mean dB", "worst dB")
    for name, (moving, steps, evaluations) in INVERSIONS.items():
        if options.only and name not in options.only:
            continue
        found = []
        for number, scene in enumerate(scenes):
            real = draw_clip(scene, np.random.default_rng(SEED + number))
            clip = replace(demo_clip(scene.caption, SEED + number, steps=steps), cfg=1.0)
            networks = Networks(module if moving else None)
            noise = host.invert(clip, real, networks, evaluations)
            found.append(decibels(host.render(clip, networks, noise=noise), through(host, real)))
        say(name, float(np.mean(found)), min(found))


def through(host: Standalone, frames: Any) -> Any:
    """The frames as the autoencoder gives them back, by which inversion is to be judged."""
    import torch

    from motion.hosts.standalone.vae import decode, encode

    with torch.inference_mode():
        pixels = decode(host.parts.vae, encode(host.parts.vae, torch.from_numpy(frames).movedim(-1, 1).float() / 255))
    return (pixels * 127.5 + 127.5).round().clamp(0, 255).movedim(1, -1).byte().cpu().numpy()


def decibels(frames: Any, wanted: Any) -> float:
    return float(10 * np.log10(255**2 / np.square(frames.astype(float) - wanted).mean()))


def held(host: Standalone, scenes: list[Scene], options: argparse.Namespace) -> None:
    module, encoder = motion.load(DEMO["motion"]), sparsectrl.load(RGB).to(host.device, host.dtype)
    middle = FRAMES // 2
    say(f"{len(scenes)} clips", "frame 1", f"frame {FRAMES - 2}", f"frame {middle}", "held exact")
    for name, (shown, settings) in HELD.items():
        if options.only and name not in options.only:
            continue
        found = []
        for number, scene in enumerate(scenes):
            real = draw_clip(scene, np.random.default_rng(SEED + number))
            images = {frame: real[frame] for frame in (0, FRAMES - 1)}
            control = Control(RGB, images, encoder=encoder) if shown else Control(None, images)
            clip = replace(demo_clip(scene.caption, SEED + number, steps=options.steps), **settings)
            frames = host.render(clip, Networks(module, controls=[control]))
            pairs = list(zip(read_clip(frames), read_clip(real), strict=True))
            exact = all((frames[frame] == real[frame]).all() for frame in images)
            found.append([*(apart(*pairs[at]) for at in (1, FRAMES - 2, middle)), float(exact)])
        say(name, *np.mean(found, axis=0).tolist())


def apart(found: Sprite | None, wanted: Sprite | None) -> float:
    if found is None or wanted is None:
        return LOST
    return float(np.hypot(*np.subtract(found.centroid, wanted.centroid)))


def temporal(host: Standalone, scenes: list[Scene], options: argparse.Namespace) -> None:
    module = motion.load(DEMO["motion"])
    say(f"{len(scenes)} clips", "constant", "wobble px", "shade")
    for weight in WEIGHTS_OF_TIME:
        found = []
        for number, scene in enumerate(scenes):
            clip = demo_clip(scene.caption, SEED + number, steps=options.steps)
            sprites = read_clip(host.render(replace(clip, temporal_guidance=weight), module))
            found.append([float(is_constant(sprites)), *wobble(sprites)])
        say(f"{weight:g}", *np.nanmean(found, axis=0).tolist())


def wobble(sprites: list[Sprite | None]) -> tuple[float, float]:
    """How far the shape is from its path and its shade from its mean, root mean squares; NaN where it is lost."""
    seen = [(time, sprite) for time, sprite in enumerate(sprites) if sprite is not None]
    if len(seen) < FRAMES // 2:
        return float("nan"), float("nan")
    times = np.array([time for time, _ in seen])
    track = np.array([sprite.centroid for _, sprite in seen])
    path = np.stack([np.polyval(np.polyfit(times, place, 2), times) for place in track.T], axis=1)
    shades = np.array([sprite.rgb for _, sprite in seen])
    return _spread(track - path), _spread(shades - shades.mean(0))


def _spread(away: Any) -> float:
    return float(np.sqrt(np.square(away).sum(1).mean()))


def cost(host: Standalone, scenes: list[Scene], options: argparse.Namespace) -> None:
    module = motion.load(DEMO["motion"])
    base = replace(demo_clip(scenes[0].caption, SEED, steps=4), cfg=8.0)
    image = draw_clip(scenes[0], np.random.default_rng(SEED))[0]

    def drawing(settings: Mapping[str, Any]) -> Callable[[], object]:
        clip: Clip = replace(base, **settings)
        controls = [Control(None, {0: image})] if "hold_keys" in settings else []
        return lambda: host.render(clip, Networks(module, controls=controls))

    calls = {name: drawing(settings) for name, settings in COSTS.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for repetition in range(6):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if repetition:
                times[name].append(time.perf_counter() - started)
    say("technique", "x none")
    for name, seconds in times.items():
        say(name, statistics.median(a / b for a, b in zip(seconds, times["none"], strict=True)))


if __name__ == "__main__":
    main()
