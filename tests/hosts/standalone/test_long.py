"""Long clips in the standalone host: windows, prompt travel, FreeInit, frames as they are decoded, and going on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motion import video
from motion.cli import main as cli
from motion.errors import MotionError
from motion.fields.table import Size
from motion.hosts.standalone import Networks, Standalone, sampling
from motion.hosts.standalone.text.joined import encode_prompts
from motion.hosts.standalone.windows import windows_of
from motion.hosts.standalone.work import FILE, Work
from motion.models.motion.model import MotionModel
from motion.settings.choices import NOISES, SAMPLERS
from motion.settings.settings import Clip
from motion.techniques.freenoise import noise_order
from tests.support.small import far

# diffusers 0.42 turns tensors into arrays in a way NumPy 2.4 frowns upon, whenever a scheduler holds sigmas.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")

SMALL = Clip(prompt="a red circle", negative="grey", frames=18, steps=3, seed=1, size=Size(64, 64))
LONG = replace(SMALL, context_length=8, context_overlap=2)


@pytest.fixture(scope="module")
def host(tiny: Path) -> Standalone:
    return Standalone.open(tiny / "sd15.safetensors", device="cpu")


@pytest.mark.parametrize("engine", ["denoiser", "attention"])
def test_one_window_is_bit_equal_to_none(engine: str, host: Standalone, v3: MotionModel) -> None:
    plain = host.render(SMALL, v3)
    for length in (18, 25):
        assert np.array_equal(host.render(replace(SMALL, context_length=length, context_engine=engine), v3), plain)


@pytest.mark.parametrize("engine", ["denoiser", "attention"])
@pytest.mark.parametrize("loop", ["none", "closed"])
def test_a_clip_beyond_the_position_table_just_works(engine: str, loop: str, host: Standalone, v3: MotionModel) -> None:
    clip = replace(SMALL, frames=40, steps=2, loop=loop, context_engine=engine)
    frames = host.render(clip, v3)
    assert frames.shape == (40, 64, 64, 3)
    assert all(frame.std() > 1 for frame in frames)
    assert np.array_equal(host.render(clip, v3), frames)


def test_steadied_colours_are_the_same_in_all_frames(host: Standalone, v3: MotionModel) -> None:
    clip = replace(SMALL, frames=20, steady_colours=1.0, loop="ping-pong")
    plain, steady = host.render(replace(clip, steady_colours=0.0), v3), host.render(clip, v3)
    before, after = (frames.mean((1, 2), dtype=np.float64).std(0) for frames in (plain, steady))
    assert (after <= 0.5).all() and (after < before / 2).all()
    streamed = np.stack(list(host.stream(clip, v3)))
    assert np.array_equal(streamed, steady[[*range(20), *range(18, 0, -1)]])


@pytest.mark.parametrize("moving", [True, False])
def test_the_device_holds_one_window_whatever_the_length(moving: bool, host: Standalone, v3: MotionModel) -> None:
    rows: list[int] = []
    hook = host.parts.unet.conv_in.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    host.render(replace(SMALL, frames=100, steps=1), v3 if moving else None)
    hook.remove()
    assert set(rows) == {2 * 16}


@pytest.mark.parametrize("engine", ["denoiser", "attention"])
def test_prompts_of_large_frames_take_turns_with_the_same_clip(
    engine: str, host: Standalone, v3: MotionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [replace(LONG, context_engine=engine), replace(LONG, context_engine=engine, prompt="0: a cat\n-1: a dog")]
    rows: list[int] = []
    hook = host.parts.unet.conv_in.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    together = host.render_all(clips, v3)
    monkeypatch.setattr(sampling, "GUIDED_AT_ONCE", 1)
    in_turns = host.render_all(clips, v3)
    hook.remove()
    assert len(set(rows)) == 2 and max(rows) == 2 * min(rows)
    assert np.abs(together.astype(int) - in_turns).max() <= 1


def test_clips_drawn_together_are_those_drawn_alone(host: Standalone, v3: MotionModel) -> None:
    clips = [LONG, replace(LONG, prompt="0: a cat\n-1: a dog", seed=2)]
    for drawn, clip in zip(host.render_all(clips, v3), clips, strict=True):
        assert np.abs(drawn.astype(int) - host.render(clip, v3)).max() <= 1


@pytest.mark.parametrize("travel", ["linear", "spherical"])
def test_key_frames_are_told_their_own_text(travel: str, host: Standalone) -> None:
    """Also the negative prompt's, with the LoRA tags out of the way of the lines."""
    clip = replace(SMALL, frames=5, prompt="a photo\n0: a cat\n4: a dog", negative="0: blue\n-1: grey", travel=travel)
    drawn = host.render(clip)
    ends = [("a photo, a cat", "blue"), ("a photo, a dog", "grey")]
    first, last = (host.render(replace(clip, prompt=prompt, negative=negative)) for prompt, negative in ends)
    assert np.abs(drawn[0].astype(int) - first[0]).max() <= 1
    assert np.abs(drawn[4].astype(int) - last[4]).max() <= 1
    assert np.abs(drawn[2].astype(int) - first[2]).max() > 1


def test_travel_reaches_the_pooled_vectors(tiny: Path) -> None:
    host = Standalone.open(tiny / "sdxl.safetensors", device="cpu")
    clip = replace(SMALL, frames=3, prompt="0: a cat\n2: a dog")
    found = encode_prompts(host.parts, [clip], 3, Networks()).rows([0, 1, 2, 0, 1, 2])
    assert found.pooled is not None
    assert (found.context.shape[0], found.pooled.shape[0]) == (6, 6)
    middle = (found.pooled[3] + found.pooled[5]) / 2
    assert far(found.pooled[4], middle) <= 1e-6
    assert not np.allclose(found.pooled[3], found.pooled[5])


@pytest.mark.parametrize("noise", NOISES)
def test_noise_is_shared_by_name(noise: str, host: Standalone) -> None:
    """Without a module a frame is its noise."""
    clip = replace(SMALL, noise=noise, steps=1)
    order = noise_order(noise, windows_of(clip, None), clip.seed)
    drawn = host.render(clip).astype(int)
    shared = [np.abs(frame - drawn[0]).max() <= 1 for frame in drawn]
    assert shared == [noise == "empty" or number == order[0] for number in order]


def test_freeinit_draws_again_from_what_it_drew(host: Standalone, v3: MotionModel) -> None:
    calls: list[tuple[int, int]] = []
    twice = replace(SMALL, freeinit=2, sampler="euler")
    drawn = host.render(twice, v3, lambda done, steps: calls.append((done, steps)))
    assert calls == [(done, 6) for done in range(7)]
    assert not np.array_equal(drawn, host.render(replace(twice, freeinit=1), v3))
    assert not np.array_equal(drawn, host.render(replace(twice, freeinit_filter="gaussian"), v3))
    assert np.array_equal(drawn, host.render(twice, v3))


@pytest.mark.parametrize("loop", ["none", "ping-pong"])
def test_a_stream_is_the_clip_as_it_is_played(loop: str, host: Standalone, v3: MotionModel) -> None:
    clip = replace(LONG, loop=loop)
    frames = host.render(clip, v3)
    streamed = np.stack(list(host.stream(clip, v3)))
    there = streamed[:18].astype(int)
    assert np.abs(there - frames).max() <= 1
    if loop == "ping-pong":
        assert np.abs(streamed[18:].astype(int) - there[-2:0:-1]).max() <= 1
    assert len(streamed) == (34 if loop == "ping-pong" else 18)


class PowerCut(Exception):
    pass


def cut_after(step: int) -> Callable[[int, int], None]:
    def progress(done: int, steps: int) -> None:
        if done == step:
            raise PowerCut

    return progress


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_clip_that_was_cut_off_goes_on_bit_by_bit(
    sampler: str, host: Standalone, v3: MotionModel, tmp_path: Path
) -> None:
    """At its last step, whatever the sampler remembers; in any round of FreeInit; and when it was cut off before."""
    clip = replace(LONG, frames=10, sampler=sampler, freeinit=2, cfg=1.0)
    totals: list[int] = []
    whole = np.stack(list(host.stream(clip, v3, lambda done, total: totals.append(total))))
    work, begun = Work.of(tmp_path / "work", clip, "the job"), None
    for cut in (totals[0] // 2 + 1, totals[0], None):
        seen: list[int] = []
        stop = cut_after(-1 if cut is None else cut)

        def progress(done: int, total: int, seen: list[int] = seen, stop: Callable[[int, int], None] = stop) -> None:
            seen.append(done)
            stop(done, total)

        with nullcontext() if cut is None else pytest.raises(PowerCut):
            again = host.stream(clip, v3, progress, work=work)
        assert begun is None or seen[0] == begun
        begun = cut
    assert np.array_equal(np.stack(list(again)), whole)
    work.finish()
    assert not (tmp_path / "work").exists()


def test_a_work_folder_keeps_one_clip_and_its_random_seed(tmp_path: Path, host: Standalone) -> None:
    clip = replace(SMALL, seed=-1, frames=2)
    work = Work.of(tmp_path / "work", clip, "the job")
    with pytest.raises(PowerCut):
        host.stream(clip, None, cut_after(1), work=work)
    assert Work.of(tmp_path / "work", clip, "the job").seed == work.seed
    with pytest.raises(MotionError, match="keeps another clip"):
        Work.of(tmp_path / "work", clip, "another job")
    (tmp_path / "work" / FILE).write_bytes(b"half of a state")
    with pytest.raises(MotionError, match="remove it to begin again"):
        Work.of(tmp_path / "work", clip, "the job")
    (tmp_path / "file").touch()
    with pytest.raises(MotionError, match="cannot be made"):
        Work.of(tmp_path / "file", clip, "the job")


def test_a_job_that_was_killed_goes_on(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Kill -9 of a process of its own; then the same command again."""
    files = ["--checkpoint", str(tiny / "sd15.safetensors"), "--motion", str(tiny / "v3.safetensors")]
    options = ["--prompt", "a cat", "--frames", "20", "--context-length", "8", "--steps", "9", "--size", "64x64"]
    command = ["render", *files, *options, "--cfg", "1", "--device", "cpu", "--sampler", "dpmpp_2m", "--json"]
    work = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "killed.png")]
    code = (
        "import os, signal, sys\n"
        "from motion.cli import main as cli\n"
        "cli._Bar.__call__ = lambda self, done, steps: done == 4 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "cli.main(sys.argv[1:])\n"
    )
    root = Path(cli.__file__).parents[2]
    killed: Any = subprocess.run([sys.executable, "-c", code, *command, *work], cwd=root, env={**os.environ})
    assert killed.returncode == -signal.SIGKILL
    assert cli.main([*command, *work]) == 0
    report = json.loads(capsys.readouterr().out)
    assert cli.main([*command, "--seed", str(report["seed"]), "--out", str(tmp_path / "whole.png")]) == 0
    assert np.array_equal(video.read(tmp_path / "killed.png").frames, video.read(tmp_path / "whole.png").frames)
    assert not (tmp_path / "work").exists()
