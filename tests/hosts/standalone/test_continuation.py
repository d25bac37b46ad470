"""Clips that go on, and that lead over to another one: which frames are given, which are new, from file to file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motion.cli import main as cli
from motion.errors import MotionError
from motion.fields.table import Size
from motion.hosts.continuation import Continuation
from motion.hosts.source import Source
from motion.hosts.standalone import Networks, Standalone
from motion.hosts.standalone.continuation import continue_clip
from motion.settings.settings import Clip
from motion.video.read import read
from motion.video.write import write
from motion.weights.bundled import WEIGHTS

SIZE = Size(64, 64)
CLIP = Clip(prompt="a cat", frames=4, steps=1, seed=1, size=SIZE, cfg=1.0)
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")


def greys(path: Path, frames: int, first: int = 0) -> Path:
    """A clip of even frames, each lighter than the one before."""
    write((np.full((64, 64, 3), first + 10 * number, np.uint8) for number in range(frames)), path, 5, "")
    return path


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return greys(tmp_path / "clip.webp", 5)


@pytest.mark.parametrize(
    ("given", "length", "rounds"), [(2, None, [2]), (2, 6, [1]), (2, 10, [2, 2, 1]), (3, 8, [1, 1, 1])]
)
def test_rounds_fill_the_length(clip: Path, given: int, length: int | None, rounds: list[int]) -> None:
    assert list(Continuation(Source(clip), given, length).rounds(4)) == rounds


def test_each_round_is_given_the_end_of_the_one_before(tiny: Path, clip: Path, monkeypatch: Any) -> None:
    """And its frames are held, so they come out as they were given."""
    host, seen = Standalone.open(tiny / "sd15.safetensors", device="cpu"), []
    render = Standalone.render

    def noted(self: Standalone, drawn: Clip, networks: Networks, *more: Any) -> Any:
        frames = render(self, drawn, networks, *more)
        seen.append((drawn, networks.controls[0].images, frames))
        return frames

    monkeypatch.setattr(Standalone, "render", noted)
    steps: list[tuple[int, int]] = []
    new, _ = continue_clip(host, CLIP, Networks(), Continuation(Source(clip), 2, 8), lambda *done: steps.append(done))
    (first, images, frames), (second, later, more) = seen
    assert [image.mean() for image in images.values()] == [30, 40] and list(images) == [0, 1]
    assert (frames[:2] == np.stack(list(images.values()))).all()
    assert (np.stack(list(later.values())) == frames[2:]).all()
    assert (np.stack(new) == np.concatenate([frames[2:], more[2:3]])).all()
    assert (first.seed, second.seed, first.hold_keys, first.key_scale) == (1, 2, "clean", 0)
    assert steps == [(0, 2), (1, 2), (1, 2), (2, 2)]


def test_the_command_puts_new_frames_behind_the_clip(clip: Path, tmp_path: Path, capsys: Any) -> None:
    encoder = WEIGHTS / "sprites-sparsectrl-rgb.safetensors"
    files = ["--extend", str(clip), "--extend-given", "2", "--sparsectrl", str(encoder), "--frames", "5"]
    out = ["--out", str(tmp_path / "out") + "/", "--zoom", "1", "--steps", "1", "--device", "cpu"]
    assert cli.main(["render", "--demo", *files, *out]) == 0
    frames = read(tmp_path / "out")
    assert (len(frames.frames), "8 frames of 64x64" in capsys.readouterr().out) == (8, True)
    assert (frames.frames[:5] == read(clip).frames).all()
    assert "Continues" in (frames.parameters or "") and "Key frames: 0 1" in (frames.parameters or "")


def test_two_clips_are_connected(clip: Path, tmp_path: Path) -> None:
    """What lies between is new; both ends are given and stay as they are."""
    other = greys(tmp_path / "other.webp", 3, 200)
    files = ["--extend", str(clip), "--connect", str(other), "--extend-given", "2", "--frames", "6"]
    out = ["--out", str(tmp_path / "out") + "/", "--zoom", "1", "--steps", "1", "--device", "cpu"]
    assert cli.main(["render", "--demo", *files, *out]) == 0
    frames = read(tmp_path / "out").frames
    assert len(frames) == 5 + 2 + 3
    assert (frames[:5] == read(clip).frames).all() and (frames[-3:] == read(other).frames).all()
    images = Continuation(Source(clip), 2, onto=Source(other)).images(list(read(clip).frames[-2:]), 6, SIZE)
    assert {frame: image.mean() for frame, image in images.items()} == {0: 30, 1: 40, 4: 200, 5: 210}


def test_what_does_not_do_is_named(clip: Path) -> None:
    source = Source(clip)
    for path, settings, named in (
        (Continuation(source, 4), CLIP, "4 are given"),
        (Continuation(source, 2, onto=source), CLIP, "4 are given"),
        (Continuation(source, 2), replace(CLIP, loop="ping-pong"), "loop is ping-pong"),
        (Continuation(source, 1, 9, source), CLIP, "leave out how long"),
    ):
        with pytest.raises(MotionError, match=named):
            path.check(settings)
    with pytest.raises(MotionError, match="has 5 frames and is to have 5"):
        list(Continuation(source, 2, 5).rounds(4))
    with pytest.raises(MotionError, match="has 5 frames, and 8 are to be given"):
        Continuation(source).end(SIZE)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--connect", "CLIP"], "--extend CLIP"),
        (["--extend", "CLIP", "--extend-given", "x"], "extend given is x"),
        (["--extend", "CLIP", "--extend-given", "2", "--init", "CLIP"], "leave out one"),
        (["--extend", "CLIP", "--keyframe", "0=CLIP"], "leave it out"),
    ],
)
def test_options_that_do_not_go_together(
    options: list[str], named: str, clip: Path, tmp_path: Path, capsys: Any
) -> None:
    given = [str(clip) if option == "CLIP" else option for option in options]
    assert cli.main(["render", "--demo", *given, "--out", str(tmp_path / "out.gif")]) == 2
    assert named in capsys.readouterr().err
