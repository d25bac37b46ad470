"""How well one-shot tuning (Tune-A-Video) draws a clip of the sprite world anew, with its own caption and with others.

    python tests/bench/quality_one_shot.py --tunings 8 --steps 500 --rate 3e-5

Each tuning learns 8 frames of one training clip with the bundled image model. It is drawn from the clip's inverted
noise: with its own caption, and with those of the same motion in four other shapes and colours. ``word``: the caption's
shape and colour in most frames. ``constant``: one shape in one shade in all frames. ``path``: the mean distance of its
centre from the clip's, in pixels. Beside it with 0 steps: the image model whose frames look at the first and the
previous one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

import motion
from motion.demo.clips import training_clip, training_scene
from motion.demo.detector import Sprite, is_constant, read_clip
from motion.demo.evaluate import demo_clip
from motion.demo.world import Frames, Scene, all_scenes
from motion.hosts.standalone import Networks, Standalone
from motion.models import sites
from motion.models.one_shot import OneShotModel
from motion.training.loop import Plan
from motion.training.one_shot import ONE_SHOT, train_one_shot
from motion.training.run import Run
from motion.video.write import write
from motion.weights.bundled import DEMO

FRAMES = 8
OTHERS = 4
"""Further captions for each clip."""
Figures = tuple[bool, bool, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tunings", type=int, default=8)
    parser.add_argument("--others", type=int, default=OTHERS)
    parser.add_argument("--steps", type=int, nargs="*", default=[ONE_SHOT.steps], help="of tuning; 0: none")
    parser.add_argument("--rate", type=float, default=ONE_SHOT.learning_rate)
    parser.add_argument(
        "--evaluations", type=int, nargs="*", default=[1, 3], help="of the network, for each inverted step"
    )
    parser.add_argument("--drawn", type=int, default=25, help="steps of sampling and of inversion")
    parser.add_argument("--cfg", type=float, default=2.0)
    options = parser.parse_args()
    host = Standalone.open(Path(DEMO["checkpoint"]), device="cpu")
    found: dict[tuple[int, int, bool], list[Figures]] = {}
    for number in range(options.tunings):
        scene, frames = training_scene(number), training_clip(number, "plain")[:FRAMES]
        captions = [scene, *others(scene, options.others, number)]
        for steps in options.steps:
            networks = tuned(host, frames, scene, replace(ONE_SHOT, steps=steps, learning_rate=options.rate))
            for evaluations in options.evaluations:
                clip = replace(demo_clip("", 1000 + number, FRAMES, options.drawn), cfg=options.cfg)
                noise = host.invert(clip, frames, networks, evaluations)
                for drawn in captions:
                    sprites = read_clip(host.render(replace(clip, prompt=drawn.caption), networks, noise=noise))
                    marks = found.setdefault((steps, evaluations, drawn is scene), [])
                    marks.append(figures(sprites, drawn, read_clip(frames)))
        tell(found)


def others(scene: Scene, count: int, seed: int) -> list[Scene]:
    """Scenes of the same motion on the same background, of other shapes and colours."""
    there = [
        other
        for other in all_scenes()
        if (other.direction, other.background) == (scene.direction, scene.background)
        and other.shape != scene.shape
        and other.colour != scene.colour
    ]
    return [there[at] for at in np.random.default_rng(seed).choice(len(there), count, replace=False)]


def tuned(host: Standalone, frames: Frames, scene: Scene, plan: Plan) -> Networks:
    """The model that has learned the clip; with no steps, as it begins."""
    if not plan.steps:
        new = OneShotModel.of_blocks(sites.spatial_blocks(host.parts.unet))
        return Networks(one_shot=new.eval().requires_grad_(False))
    with tempfile.TemporaryDirectory() as folder:
        write(frames, Path(folder) / "clip.png", 8)
        run = Run(
            Path(DEMO["checkpoint"]),
            Path(folder) / "clip.png",
            Path(folder),
            size=(64, 64),
            frames=FRAMES,
            stride=1,
            batch=1,
        )
        return Networks(one_shot=motion.one_shot.load(train_one_shot(run, scene.caption, plan)).float())


def figures(sprites: Sequence[Sprite | None], scene: Scene, source: Sequence[Sprite | None]) -> Figures:
    pairs = zip(sprites, source, strict=True)
    far = [np.linalg.norm(np.subtract(one.centroid, other.centroid)) for one, other in pairs if one and other]
    right = [sprite is not None and (sprite.shape, sprite.colour) == (scene.shape, scene.colour) for sprite in sprites]
    return sum(right) > len(right) / 2, is_constant(sprites), float(np.mean(far)) if far else float("nan")


def tell(found: dict[tuple[int, int, bool], list[Figures]]) -> None:
    """What there is so far, as a table."""
    sys.stdout.write(
        "| tuned | evaluations | caption | clips | word | constant | path |\n|---|---|---|---|---|---|---|\n"
    )
    for (steps, evaluations, own), marks in found.items():
        word, constant, path = np.array(marks, float).T
        what = f"| {steps} | {evaluations} | {'its own' if own else 'another'} | {len(marks)}"
        sys.stdout.write(f"{what} | {word.mean():.0%} | {constant.mean():.0%} | {np.nanmean(path):.1f} px |\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
