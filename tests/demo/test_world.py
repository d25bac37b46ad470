"""The generator and the judge agree: what is drawn is read back, whatever the seed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motion.demo.clips import training_clip, training_scene
from motion.demo.detector import direction, has_watermark, is_constant, read_clip, read_frame
from motion.demo.folder import write_folder
from motion.demo.world import (
    COLOURS,
    FRAMES,
    LOOKS,
    PIXELS,
    SHAPES,
    Scene,
    add_watermark,
    all_scenes,
    draw_clip,
    parse_caption,
)
from motion.errors import MotionError
from motion.training.folder import find
from motion.video.read import read

scenes = st.sampled_from(all_scenes())
seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=60)
@given(scenes, seeds, st.sampled_from(LOOKS))
def test_what_is_drawn_is_read_back(scene: Scene, seed: int, look: str) -> None:
    sprites = read_clip(draw_clip(scene, np.random.default_rng(seed), look))
    assert all(s is not None and (s.shape, s.colour, s.look) == (scene.shape, scene.colour, look) for s in sprites)
    assert is_constant(sprites)
    assert direction(sprites) == scene.direction


@settings(max_examples=20)
@given(scenes, seeds)
def test_frames_of_different_clips_are_not_constant(scene: Scene, seed: int) -> None:
    rng = np.random.default_rng(seed)
    stills = np.stack([draw_clip(scene, rng)[time] for time in range(FRAMES)])
    assert not is_constant(read_clip(stills))


@settings(max_examples=40)
@given(scenes, seeds, st.sampled_from(LOOKS))
def test_a_watermark_is_seen_and_changes_nothing_else(scene: Scene, seed: int, look: str) -> None:
    frames = draw_clip(scene, np.random.default_rng(seed), look)
    assert sum(map(has_watermark, frames)) < FRAMES - 2
    assert all(map(has_watermark, add_watermark(frames)))
    assert direction(read_clip(add_watermark(frames[:1]).repeat(FRAMES, axis=0))) is None


def test_a_folder_of_clips_is_data(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "clips", 3, watermark=True)
    found = find(folder)
    assert [parse_caption(source.caption) for source in found] == [training_scene(number) for number in range(3)]
    for number, source in enumerate(found):
        assert (read(source.path).frames == add_watermark(training_clip(number, "plain"))).all()


def test_a_clip_is_its_seed() -> None:
    scene = all_scenes()[7]
    first, again, other = (draw_clip(scene, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert first.shape == (FRAMES, PIXELS, PIXELS, 3)
    assert (first == again).all()
    assert (first != other).any()


def test_a_shape_that_stands_still_has_no_direction() -> None:
    frame = draw_clip(all_scenes()[0], np.random.default_rng(0))[0]
    assert direction(read_clip([frame] * FRAMES)) is None


def test_an_empty_frame_shows_nothing() -> None:
    frame = np.full((PIXELS, PIXELS, 3), 90, dtype=np.uint8)
    assert read_frame(frame) is None
    assert not is_constant([None] * FRAMES)
    assert direction([None] * FRAMES) is None


def test_held_out_scenes_leave_every_word_in_both_parts() -> None:
    held_out = [scene for scene in all_scenes() if scene.held_out]
    words = Counter(word for scene in held_out for word in (scene.colour, scene.shape, scene.direction))
    assert len(held_out) == len(all_scenes()) // 8
    assert all(0 < words[word] <= len(held_out) // 2 for word in (*COLOURS, *SHAPES))


@given(scenes)
def test_captions_are_read_back(scene: Scene) -> None:
    assert parse_caption(scene.caption) == scene


@given(st.text())
def test_other_text_is_no_caption(text: str) -> None:
    with pytest.raises(MotionError, match="sprite world"):
        parse_caption(text)
