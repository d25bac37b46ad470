"""How well clips of the sprite world are drawn anew, and how well they go on.

    python tests/bench/quality_source.py --clips 20 --minutes 20

Sources are the world's own clips of held-out scenes; they are drawn anew in another shape and colour, at CFG 5, over
strengths and noises. ``words``: new colour and new shape in at least 14 of 16 frames; ``path``: the mean distance in
pixels from where the source has its shape, its median over clips and the share of at most 2. Then the first 8 frames
of a clip are given and 8 are drawn behind them. ``jump``: how far the first new frame's shape is from where the given
ones lead; ``speed``: the new frames' over the given ones'. Runs take turns, so each has drawn as many clips when time
is up.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

import motion
from motion.demo.detector import read_clip
from motion.demo.evaluate import demo_clip
from motion.demo.world import COLOURS, FRAMES, SHAPES, Frames, Scene, all_scenes, draw_clip
from motion.hosts.continuation import Continuation
from motion.hosts.controls import Control
from motion.hosts.source import Source
from motion.hosts.standalone import Networks, Standalone
from motion.hosts.standalone.continuation import continue_clip
from motion.video.write import write
from motion.weights.bundled import DEMO, WEIGHTS

GIVEN = 8
STRENGTHS = (0.3, 0.5, 0.65, 0.8)
ENCODER = WEIGHTS / "sprites-sparsectrl-rgb.safetensors"
Measured = tuple[bool, float, float]
Draw = Callable[[Scene, Frames, int], Measured]


class Bench:
    """The bundled models."""

    def __init__(self, device: str) -> None:
        self.host = Standalone.open(Path(DEMO["checkpoint"]), device=device)
        self.networks = Networks(motion.load(Path(DEMO["motion"])))

    def runs(self) -> Mapping[str, Draw]:
        """What is drawn of a scene, its clip and a seed."""
        anew = {
            f"strength {strength}, {noise} noise": self._anew(strength, noise)
            for noise in ("independent", "constant")
            for strength in STRENGTHS
        }
        both = "goes on, SparseCtrl and held"
        on = {both: self._goes_on(True), "goes on, held": self._goes_on(False)}
        settings = {f"{both}, scale off keys 0.5": {"off_keys": 0.5}, f"{both}, CFG 4": {"cfg": 4.0}}
        return {**anew, **on, **{name: self._goes_on(True, **changed) for name, changed in settings.items()}}

    def _anew(self, strength: float, noise: str) -> Draw:
        def draw(scene: Scene, real: Frames, seed: int) -> Measured:
            new = replace(scene, colour=_other(scene.colour, COLOURS), shape=_other(scene.shape, SHAPES))
            clip = replace(demo_clip(new.caption, seed), cfg=5.0, strength=strength, noise=noise)
            with TemporaryDirectory() as folder:
                write(real, Path(folder) / "source.webp", 8, "")
                drawn = read_clip(self.host.render(clip, self.networks, source=Source(Path(folder) / "source.webp")))
            right = [s is not None and (s.colour, s.shape) == (new.colour, new.shape) for s in drawn]
            pairs = [(s, at) for s, at in zip(drawn, read_clip(real), strict=True) if s is not None and at is not None]
            away = [np.hypot(*np.subtract(s.centroid, at.centroid)) for s, at in pairs]
            return sum(right) >= FRAMES - 2, float(np.mean(away)) if away else np.inf, np.nan

        return draw

    def _goes_on(self, encoder: bool, **settings: float) -> Draw:
        networks = replace(self.networks, controls=[Control(ENCODER, {})] if encoder else [])

        def draw(scene: Scene, real: Frames, seed: int) -> Measured:
            with TemporaryDirectory() as folder:
                write(real[:GIVEN], Path(folder) / "clip.webp", 8, "")
                path = Continuation(Source(Path(folder) / "clip.webp"), GIVEN)
                clip = replace(demo_clip(scene.caption, seed), **settings)  # type: ignore[arg-type]
                new, _ = continue_clip(self.host, clip, networks, path)
            given, found = read_clip(real[:GIVEN]), read_clip(new)
            right = all(s is not None and (s.colour, s.shape) == (scene.colour, scene.shape) for s in found)
            if None in given or None in found:
                return right, np.inf, np.nan
            places = np.array([s.centroid for s in (*given, *found) if s is not None])
            step, later = _velocity(places[:GIVEN]), _velocity(places[GIVEN:])
            jump = np.linalg.norm(places[GIVEN] - places[GIVEN - 1] - step)
            return right, float(jump), float(later @ step / (step @ step))

        return draw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    runs, until = Bench(options.device).runs(), time.monotonic() + 60 * options.minutes
    held_out = [scene for scene in all_scenes() if scene.held_out]
    found: dict[str, list[Measured]] = {name: [] for name in runs}
    for number in range(options.clips):
        if time.monotonic() > until:
            break
        scene, seed = held_out[5 * number % len(held_out)], 7000 + number
        real = draw_clip(scene, np.random.default_rng(seed))
        for name, draw in runs.items():
            found[name].append(draw(scene, real, seed))
    sys.stdout.write("| run | n | words | path or jump | at most 2 px | speed 0.5 to 2 |\n|---|---|---|---|---|---|\n")
    for name, rows in found.items():
        words, away, speed = np.array(rows, float).T
        paced = "-" if np.isnan(speed).all() else f"{((speed >= 0.5) & (speed <= 2)).mean():.0%}"
        figures = f"{words.mean():.0%} | {np.median(away):.1f} px | {(away <= 2).mean():.0%} | {paced}"
        sys.stdout.write(f"| {name} | {len(rows)} | {figures} |\n")


def _other(word: str, words: Mapping[str, object] | tuple[str, ...]) -> str:
    """The second next one."""
    every = list(words)
    return every[(every.index(word) + 2) % len(every)]


def _velocity(places: np.ndarray) -> np.ndarray:
    """Pixels a frame."""
    return np.asarray((places[-1] - places[0]) / (len(places) - 1))


if __name__ == "__main__":
    main()
