"""The sprite world's examination: what the written files draw for captions that training never saw, as figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

import motion
from motion.demo.detector import Sprite, direction, has_watermark, is_constant, read_clip
from motion.demo.world import FRAMES, Frames, Scene, all_scenes
from motion.hosts.standalone import Networks, Standalone
from motion.settings.settings import FIELDS, Clip
from motion.weights.bundled import DEMO

STEPS = int(DEMO["steps"])
"""Steps of sampling that suit the bundled models."""

AT_ONCE = 4
"""Clips of 16 frames in one batch."""

Draw = Callable[[Sequence[Clip]], Iterable[Frames]]


@dataclass(frozen=True)
class Examination:
    """How many stills and clips to draw, and the look they should have."""

    stills: int = 200
    clips: int = 100
    look: str = "plain"
    seed: int = 1000
    steps: int = STEPS
    without: int | None = None
    """Clips without the module; left out, as many."""

    def run(
        self, checkpoint: Path, module: Path | None, device: str = "auto", adapter: Path | None = None
    ) -> dict[str, float]:
        """Shares from 0 to 1: of right stills, and of clips as asked, with the module and without it; all with the
        domain adapter, if there is one.

        ``still_right``: shape and colour as the caption says. ``still_look``: in the look asked for.
        ``direction``: the way the caption says. ``constant``: one shape in one shade in all frames;
        ``constant_right``: and it is the caption's. ``look``: in at least 14 of 16 frames; ``watermark``: the world's
        mark is in as many. ``still_watermark``: in a still.
        """
        host = Standalone.open(checkpoint, device=device)
        active = [(motion.lora.load(adapter, "image"), 1.0)] if adapter is not None else []
        figures = self._stills(lambda clips: host.render_all(clips, Networks(attached=active)))
        if module is not None:
            model = motion.load(module)
            figures |= self._clips(self.clips, lambda clips: host.render_all(clips, Networks(model, attached=active)))
        without = self.clips if self.without is None else self.without
        plain = self._clips(without, lambda clips: host.render_all(clips, Networks(attached=active)))
        return figures | {f"{name}_without_module": share for name, share in plain.items()}

    def _stills(self, draw: Draw) -> dict[str, float]:
        right, look, mark = [], [], []
        for scene, frames in self._drawn(self.stills, 1, draw):
            (sprite,) = read_clip(frames)
            right.append(_is(sprite, scene))
            look.append(sprite is not None and sprite.look == self.look)
            mark.append(has_watermark(frames[0]))
        return {"still_right": _share(right), "still_look": _share(look), "still_watermark": _share(mark)}

    def _clips(self, count: int, draw: Draw) -> dict[str, float]:
        marks: dict[str, list[bool]] = {}
        for scene, frames in self._drawn(count, FRAMES, draw):
            sprites = read_clip(frames)
            constant = is_constant(sprites)
            found = {
                "direction": direction(sprites) == scene.direction,
                "constant": constant,
                "constant_right": constant and _is(sprites[0], scene),
                "look": sum(s is not None and s.look == self.look for s in sprites) >= FRAMES - 2,
                "watermark": sum(map(has_watermark, frames)) >= FRAMES - 2,
            }
            for name, mark in found.items():
                marks.setdefault(name, []).append(mark)
        return {name: _share(marked) for name, marked in marks.items()}

    def _drawn(self, count: int, frames: int, draw: Draw) -> Iterator[tuple[Scene, Frames]]:
        """Held-out scenes in turn, each with a seed of its own, and what was drawn for them."""
        held_out = [scene for scene in all_scenes() if scene.held_out]
        scenes = iter([held_out[index % len(held_out)] for index in range(count)])
        seed = self.seed
        while batch := list(islice(scenes, AT_ONCE * FRAMES // frames)):
            clips = [demo_clip(scene.caption, seed + index, frames, self.steps) for index, scene in enumerate(batch)]
            yield from zip(batch, draw(clips), strict=True)
            seed += len(batch)


def demo_clip(prompt: str, seed: int, frames: int = FRAMES, steps: int = STEPS) -> Clip:
    """A clip at the settings that suit the bundled models."""
    suited = {name: FIELDS[name].parse(DEMO[name]) for name in ("size", "cfg")}
    return Clip(prompt=prompt, seed=seed, frames=frames, steps=steps, **suited)


def _is(sprite: Sprite | None, scene: Scene) -> bool:
    return sprite is not None and (sprite.shape, sprite.colour) == (scene.shape, scene.colour)


def _share(marks: Sequence[bool]) -> float:
    return float(np.mean(marks))
