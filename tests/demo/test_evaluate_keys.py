"""The examination of key frames: what it calls obedient, and that it runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file
from torch import nn

from motion.demo import evaluate_keys
from motion.demo.evaluate_keys import KeyExamination
from motion.demo.world import all_scenes, draw_clip
from motion.hosts.standalone.checkpoint import open_parts
from motion.training.conditions import CONDITIONS, Condition
from motion.training.sparse import fresh_encoder
from motion.weights.bundled import DEMO
from motion.weights.checkpoint import load

SCENE = all_scenes()[3]
REAL = draw_clip(SCENE, np.random.default_rng(5))


def test_the_world_itself_obeys() -> None:
    assert evaluate_keys._errors(REAL, REAL) == (0, 0)
    assert all({**evaluate_keys._arrives(REAL, REAL), **evaluate_keys._begins(REAL, REAL)}.values())


def test_what_is_elsewhere_or_else_does_not() -> None:
    moved = np.roll(REAL, 6, axis=2)
    assert not evaluate_keys._arrives(moved, REAL)["two_keys_arrive"]
    found = evaluate_keys._begins(moved, REAL)
    assert found == {
        "one_key_place": False, "one_key_shape": True, "one_key_colour": True, "one_key_obeyed": False,
        "one_key_shade": True, "one_key_kept": True,
    }  # fmt: skip
    assert not evaluate_keys._begins(255 - REAL, REAL)["one_key_colour"]
    late = REAL.copy()
    late[7] = 255 - late[7]
    assert evaluate_keys._begins(late, REAL)["one_key_place"] and not evaluate_keys._begins(late, REAL)["one_key_kept"]
    assert not any(evaluate_keys._begins(np.zeros_like(REAL), REAL).values())


def test_errors_at_keys_and_between_are_told_apart() -> None:
    late = REAL.copy()
    late[7] = 255 - late[7]
    at_keys, between = evaluate_keys._errors(late, REAL)
    assert at_keys == 0 < between


@pytest.mark.parametrize("made", CONDITIONS)
def test_it_runs(made: str, tmp_path: Path) -> None:
    base, module = Path(DEMO["checkpoint"]), Path(DEMO["motion"])
    encoder = fresh_encoder(open_parts(base).unet.float(), load(module).float(), Condition(made))
    nn.init.normal_(encoder.controlnet_mid_block.weight, std=0.1)
    nn.init.normal_(next(iter(encoder.controlnet_down_blocks)).weight, std=0.1)
    save_file(encoder.state_dict(), tmp_path / "encoder.safetensors")
    figures = KeyExamination(clips=1, steps=2).run(base, module, tmp_path / "encoder.safetensors", "cpu")
    assert figures.pop("key_error") > 0 and figures.pop("between_error") > 0
    assert set(figures) == {"two_keys_arrive", *evaluate_keys._begins(REAL, REAL)}
    assert all(0 <= share <= 1 for share in figures.values())
