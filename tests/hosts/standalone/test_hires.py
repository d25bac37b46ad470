"""The second pass of the standalone host: what it begins with, in which size, and how far it leaves the first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import motion
from motion.fields.table import Size
from motion.hosts.standalone import Networks, Standalone
from motion.hosts.standalone.work import Work
from motion.settings.settings import Clip

CLIP = Clip(prompt="a cat", frames=2, steps=4, seed=1, size=Size(96, 64), cfg=1.0, hires=1.5, sampler="euler")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")


@pytest.fixture(scope="module")
def host(tiny: Path) -> Standalone:
    return Standalone.open(tiny / "sd15.safetensors", device="cpu")


def test_frames_are_larger_and_drawn_of_the_first_pass(host: Standalone, tiny: Path) -> None:
    """Moved as the first pass is; the less is drawn anew, the nearer it stays to it."""
    steps: list[int] = []
    for networks in (Networks(), Networks(motion.load(tiny / "v3.safetensors"))):
        first = host._latents([replace(CLIP, hires=1.0)], networks, None)[0]
        begun = host._enlarged(first[None], CLIP.finished_size)[0]
        drawn = [
            host._latents([replace(CLIP, hires_strength=strength)], networks, lambda done, _: steps.append(done))[0]
            for strength in (0.0, 1.0)
        ]
        assert {tuple(latents.shape[-2:]) for latents in drawn} == {(12, 18)}
        near, far = ((latents - begun).norm() for latents in drawn)
        assert near < 0.6 * far
    assert steps[:7] == [0, 1, 2, 3, 4, 7, 8]  # with a strength of 0 one step of four is taken again
    assert host.render(CLIP).shape == (2, 96, 144, 3)


def test_off_is_one_pass(host: Standalone) -> None:
    clip = replace(CLIP, hires=1.0)
    assert clip.passes() == [clip]
    assert (host.render(clip) == host.render(replace(clip, hires_strength=1.0))).all()


def test_rounds_and_detours_are_the_first_passs() -> None:
    """FreeInit draws the second pass once, and what Text2Video-Zero moved stays where it is."""
    first, second = replace(CLIP, freeinit=3, zero_shot=True).passes()
    assert (first.freeinit, first.zero_shot, second.freeinit, second.zero_shot) == (3, True, 1, False)
    assert second.cross_frame == "first" and second.size == Size(144, 96)


def test_a_killed_job_goes_on_in_its_second_pass(host: Standalone, tmp_path: Path) -> None:
    expected = np.stack(list(host.stream(CLIP)))

    class Killed(Exception):
        pass

    def kill(done: int, steps: int) -> None:
        if done == 7:
            raise Killed

    work = Work.of(tmp_path / "work", CLIP, "job")
    with pytest.raises(Killed):
        host.stream(CLIP, None, kill, work)
    begun: list[int] = []
    assert (np.stack(list(host.stream(CLIP, None, lambda done, _: begun.append(done), work))) == expected).all()
    assert begun == [4, 7, 8]
    work.finish()
    assert not (tmp_path / "work").exists()
