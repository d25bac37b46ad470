"""The examination of camera moves: what it calls right, and that every move it knows is seen as what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from motion.demo.detector import changes, read_clip
from motion.demo.evaluate_moves import SEEN, MoveExamination, flow
from motion.demo.world import FRAMES, PIXELS, all_scenes, draw_clip
from motion.errors import MotionError
from motion.training.moves import MOVES, move_camera
from motion.weights.bundled import DEMO

SCENE = all_scenes()[3]


@pytest.mark.parametrize("move", SEEN)
def test_a_move_over_a_still_has_its_own_sign(move: str) -> None:
    """Whatever shape it is, wherever it stands."""
    for seed in range(8):
        still = draw_clip(SCENE, np.random.default_rng(seed))[:1]
        gone = changes(read_clip(move_camera(still, move, FRAMES, PIXELS, PIXELS)))
        stays = changes(read_clip(still.repeat(FRAMES, axis=0)))
        assert flow(gone, stays, move) > 0
        opposite = next(name for name in SEEN if np.array_equal(np.negative(SEEN[name]), SEEN[move]))
        assert flow(gone, stays, opposite) < 0


def test_a_lost_shape_is_not_right() -> None:
    assert not flow(None, changes(read_clip(draw_clip(SCENE, np.random.default_rng(0)))), "zoom-in") > 0


def test_rolls_are_refused() -> None:
    assert set(SEEN) < set(MOVES)
    with pytest.raises(MotionError, match="roll-clockwise"):
        MoveExamination(1).run(Path(DEMO["checkpoint"]), Path(DEMO["motion"]), {"roll-clockwise": Path(DEMO["motion"])})
