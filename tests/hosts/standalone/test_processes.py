"""Clips that several processes draw together are those of one, bit by bit; one that is killed ends the others."""

from __future__ import annotations

import json
import signal
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from motion import video
from motion.cli import main as cli
from motion.fields.table import Size
from motion.hosts.controls import Control
from motion.hosts.standalone import Networks, Standalone
from motion.hosts.standalone.work import FILE
from motion.models.motion.model import MotionModel
from motion.sampling.sharing import ALONE, Sharing
from motion.settings.settings import Clip
from motion.video.pictures import Frame
from tests.support.teams import in_threads, start_team

# diffusers 0.42 turns tensors into arrays in a way NumPy 2.4 frowns upon, whenever a scheduler holds sigmas.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")

LONG = Clip(
    prompt="0: a cat\n-1: a dog", negative="grey", frames=7, steps=2, seed=1, size=Size(64, 64),
    context_length=4, context_overlap=1, sampler="euler_a", steady_colours=0.5, loop="ping-pong",
)  # fmt: skip
KILLED = """
import os, signal, sys
from motion.cli import main as cli
from motion.hosts.standalone.sampling import Sampling
step = Sampling._step
def _step(self, run, t):
    if run.done == 2 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    step(self, run, t)
Sampling._step = _step
sys.exit(cli.main(sys.argv[1:]))
"""


def drawn_by(
    sharing: Sharing, opened: Standalone, v3: MotionModel, encoder: Path, clip: Clip
) -> tuple[list[Frame], float | None, set[int]]:
    """The frames, what its key frame did, and the numbers of frames that the autoencoder was given at a time."""
    host = replace(deepcopy(opened), sharing=sharing)
    at_once: set[int] = set()
    host.parts.vae.decoder.register_forward_pre_hook(lambda _, args: at_once.add(len(args[0])))
    control = Control(encoder, {0: np.full((64, 64, 3), 90, np.uint8)})
    frames = list(host.stream(clip, Networks(v3, controls=[control])))
    if not sharing.leads:
        return frames, None, at_once
    sharing.end()
    assert control.effect is not None
    return frames, control.effect.strength, at_once


@pytest.mark.parametrize("clip", [replace(LONG, freeinit=2), replace(LONG, context_length=7)])
def test_a_clip_of_two_is_that_of_one(
    clip: Clip, tiny: Path, v3: MotionModel, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a key frame, further rounds and colours that are steadied; also where one of them draws it alone."""
    monkeypatch.setattr("motion.hosts.standalone.vae.AT_ONCE", 3 * 64 * 64)
    opened = Standalone.open(tiny / "sd15.safetensors", device="cpu")
    alone, strength, at_once = drawn_by(ALONE, opened, v3, encoder, clip)
    (frames, its_strength, first), (others, _, second) = in_threads(
        2, lambda sharing: drawn_by(sharing, opened, v3, encoder, clip)
    )
    assert np.array_equal(frames, alone) and others == []
    assert its_strength == pytest.approx(strength, rel=1e-5)
    assert first | second == at_once and len(second) > 0


@pytest.fixture
def command(tiny: Path) -> list[str]:
    files = ["--checkpoint", str(tiny / "sd15.safetensors"), "--motion", str(tiny / "v3.safetensors")]
    options = ["--prompt", "a cat", "--frames", "12", "--context-length", "4", "--context-overlap", "1", "--steps", "4"]
    return ["render", *files, *options, "--size", "64x64", "--device", "cpu", "--sampler", "dpmpp_2m", "--json"]


def test_processes_draw_a_clip_and_go_on_where_one_was_killed(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work, killed, whole = tmp_path / "work", tmp_path / "killed.png", tmp_path / "whole.png"
    broken = [*command, "--work", str(work), "--out", str(killed)]
    team = start_team(2, lambda rank: ["-c", KILLED, *broken])
    (_, told), _ = [process.communicate(timeout=120) for process in team]
    assert [process.returncode for process in team] == [2, -signal.SIGKILL], told
    assert told.splitlines()[-1].startswith("error: another of the processes")
    assert "Traceback" not in told
    assert (work / FILE).is_file() and not killed.exists()

    assert cli.main(broken) == 0
    report = json.loads(capsys.readouterr().out)
    team = start_team(3, lambda rank: ["-m", "motion", *command, "--seed", str(report["seed"]), "--out", str(whole)])
    ends = [process.communicate(timeout=120) for process in team]
    assert [process.returncode for process in team] == [0, 0, 0], ends
    assert json.loads(ends[0][0])["parameters"] == report["parameters"]
    assert not any(output for output, _ in ends[1:])
    assert np.array_equal(video.read(killed).frames, video.read(whole).frames)
