"""The sprite world's examination of a SparseCtrl encoder: whether clips obey key frames, as figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np

import motion
import sparsectrl
from motion.demo.detector import SAME_SHADE, Sprite, read_clip, read_frame
from motion.demo.evaluate import STEPS, demo_clip
from motion.demo.world import FRAMES, Frames, Scene, all_scenes, draw_clip
from motion.hosts.controls import Control
from motion.hosts.standalone import Networks, Standalone
from motion.video.sketch import sketch

NEAR = 2.0
"""Pixels between centroids within which a shape is where it should be."""


@dataclass(frozen=True)
class KeyExamination:
    """How many clips of held-out scenes to draw, each with two keys, with one, and with none."""

    clips: int = 100
    seed: int = 2000
    steps: int = STEPS

    def run(self, checkpoint: Path, module: Path, encoder: Path, device: str = "auto") -> dict[str, float]:
        """What comes of key frames taken from the world's own clips, under their captions.

        ``key_error``: mean squared error at keys 0 and 15 over that of the clip without keys and with the same noise
        (half is asked for); ``between_error``: that of frames 1 to 14. The rest are shares from 0 to 1.
        ``two_keys_arrive``: with these keys (from A to B) the shape ends within `NEAR` pixels of where the last key has
        it. With one key at 0, ``one_key_place``, ``one_key_shape``, ``one_key_colour``: frame 0 has the key's;
        ``one_key_obeyed``: all three; ``one_key_shade``: its shade, too, which no caption tells; ``one_key_kept``: all
        frames have its shape in its shade. An encoder of pixels is shown the frames' edges.
        """
        host, model = Standalone.open(checkpoint, device=device), motion.load(module)
        loaded = sparsectrl.load(encoder).to(host.device, host.dtype)
        errors: dict[str, list[tuple[float, float]]] = {"keyed": [], "plain": []}
        marks: dict[str, list[bool]] = {}
        held_out = cycle(scene for scene in all_scenes() if scene.held_out)
        for seed, scene in enumerate(islice(held_out, self.clips), self.seed):
            real = draw_clip(scene, np.random.default_rng(seed))
            shown = sketch(real) if loaded.shape.embedding else real

            def draw(*keys: int, scene: Scene = scene, seed: int = seed, shown: Frames = shown) -> Frames:
                controls = [Control(encoder, {key: shown[key] for key in keys}, encoder=loaded)] if keys else []
                clip = demo_clip(scene.caption, seed, steps=self.steps)
                return host.render(clip, Networks(model, controls=controls))

            two, one, plain = draw(0, FRAMES - 1), draw(0), draw()
            errors["keyed"].append(_errors(two, real))
            errors["plain"].append(_errors(plain, real))
            for name, mark in {**_arrives(two, real), **_begins(one, real)}.items():
                marks.setdefault(name, []).append(mark)
        shares = {name: float(np.mean(marked)) for name, marked in marks.items()}
        keyed, plain = (np.sum(errors[name], axis=0) for name in ("keyed", "plain"))
        at_keys, between = keyed / plain
        return {"key_error": float(at_keys), "between_error": float(between), **shares}


def _errors(drawn: Frames, real: Frames) -> tuple[float, float]:
    """Mean squared errors of the first and last frame, and of those between."""
    squares = np.square(drawn.astype(np.float64) - real).mean(axis=(1, 2, 3))
    return squares[[0, -1]].mean(), squares[1:-1].mean()


def _arrives(drawn: Frames, real: Frames) -> Mapping[str, bool]:
    return {"two_keys_arrive": _near(read_frame(drawn[-1]), read_frame(real[-1]))}


def _begins(drawn: Frames, real: Frames) -> Mapping[str, bool]:
    found, key = read_clip(drawn), read_frame(real[0])
    first = {
        "one_key_place": _near(found[0], key),
        "one_key_shape": _same(found[0], key, "shape"),
        "one_key_colour": _same(found[0], key, "colour"),
    }
    return {
        **first,
        "one_key_obeyed": all(first.values()),
        "one_key_shade": _same_shade(found[0], key),
        "one_key_kept": all(_same(sprite, key, "shape") and _same_shade(sprite, key) for sprite in found),
    }


def _near(found: Sprite | None, key: Sprite | None) -> bool:
    return found is not None and key is not None and math.dist(found.centroid, key.centroid) <= NEAR


def _same(found: Sprite | None, key: Sprite | None, trait: str) -> bool:
    return found is not None and key is not None and getattr(found, trait) == getattr(key, trait)


def _same_shade(found: Sprite | None, key: Sprite | None) -> bool:
    return found is not None and key is not None and math.dist(found.rgb, key.rgb) <= SAME_SHADE
