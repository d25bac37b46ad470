"""The sprite world's examination of a motion LoRA of a camera move: whether clips go with the camera, as figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from types import MappingProxyType

import numpy as np

import motion
from motion.demo.detector import changes, read_clip
from motion.demo.evaluate import STEPS, demo_clip
from motion.demo.world import all_scenes
from motion.errors import MotionError
from motion.hosts.standalone import Networks, Standalone

SEEN: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {
        "pan-left": (1, 0, 0),
        "pan-right": (-1, 0, 0),
        "tilt-up": (0, 1, 0),
        "tilt-down": (0, -1, 0),
        "zoom-in": (0, 0, 1),
        "zoom-out": (0, 0, -1),
    }
)
"""How a camera move (`motion.training.moves`) changes what is seen: to the right, down, larger."""


@dataclass(frozen=True)
class MoveExamination:
    """How many clips of held-out scenes to draw with each LoRA, and as many without."""

    clips: int = 50
    seed: int = 3000
    steps: int = STEPS

    def run(
        self, checkpoint: Path, module: Path, loras: Mapping[str, Path], device: str = "auto"
    ) -> dict[str, dict[str, float]]:
        """What the LoRA of each move adds at weight 1 to the motion of clips, against those of the same seeds without
        it, by the move.

        ``flow_right``: the share in which it has the move's sign. ``flow``: how much of it there is on average, pixels
        in a clip, or for zooms the logarithm of the area's factor. Raises MotionError for a move that no shape shows.
        """
        if odd := next((move for move in loras if move not in SEEN), None):
            raise MotionError(f"move is {odd}: one of {', '.join(SEEN)} can be examined")
        host, model = Standalone.open(checkpoint, device=device), motion.load(module)
        still, figures = self._changes(host, Networks(model)), {}
        for move, lora in loras.items():
            moved = self._changes(host, Networks(model, attached=[(motion.lora.load(lora, "motion"), 1.0)]))
            flows = [flow(*both, move) for both in zip(moved, still, strict=True)]
            right = float(np.mean(np.array(flows) > 0))
            figures[move] = {"flow_right": right, "flow": float(np.nanmean(flows))}
        return figures

    def _changes(self, host: Standalone, networks: Networks) -> list[np.ndarray | None]:
        """What changes in each of the clips."""
        held_out = cycle(scene for scene in all_scenes() if scene.held_out)
        scenes = enumerate(islice(held_out, self.clips), self.seed)
        clips = (demo_clip(scene.caption, seed, steps=self.steps) for seed, scene in scenes)
        return [changes(read_clip(host.render(clip, networks))) for clip in clips]


def flow(moved: np.ndarray | None, still: np.ndarray | None, move: str) -> float:
    """How far `moved` goes with the camera beyond `still` (both of `changes`); NaN where a shape was lost."""
    if moved is None or still is None:
        return float("nan")
    return float(np.dot(SEEN[move], moved - still))
