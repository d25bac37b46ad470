"""The command line refuses what cannot be: exit code 2, one line with the value and the remedy, nothing written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from safetensors.torch import save_file

from motion.cli import main as cli
from motion.cli import render
from motion.settings.parameters import infotext
from motion.settings.settings import FIELDS, Clip
from motion.video.write import write
from motion.weights.bundled import DEMO


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files of many wrong kinds, which is where the command runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.safetensors").touch()
    (tmp_path / "random.ckpt").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "truncated.safetensors").write_bytes(b"\xff\x00\x00\x00\x00\x00\x00\x00{")
    torch.save({"conv_in.weight": torch.zeros(2)}, tmp_path / "wrong.ckpt")
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(2, 2)}, tmp_path / "ink.safetensors")
    (tmp_path / "folder").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    return tmp_path


RENDER = ["render", "--checkpoint", "wrong.ckpt", "--prompt", "a cat", "--out", "clip.gif"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--frames", "0"], "frames is 0: give a whole number from 1 to 10000"),
        (["--frames", "many"], "frames is many: give a whole number"),
        (["--steps", "-5"], "steps is -5: give a whole number from 1 to 250"),
        (["--cfg", "nan"], "cfg is nan: give a number"),
        (["--cfg", "inf"], "cfg is inf: give a number"),
        (["--fps", "0"], "fps is 0.0: give a number"),
        (["--fps", "60"], "fps is 60: .gif plays 50 at most"),
        (["--seed", "-2"], "seed is -2: give a whole number from -1"),
        (["--seed", "99999999999999999999"], "seed is 99999999999999999999"),
        (["--size", "500x512"], "size is 500x512: give WIDTHxHEIGHT, each a multiple of 8"),
        (["--size", "0x0"], "size is 0x0"),
        (["--size", "100000x100000"], "size is 100000x100000"),
        (["--size", "512"], "size is 512"),
        (["--sampler", "plms"], "sampler is plms: choose one of ddim"),
        (["--sampler", "lcm", "--steps", "200"], "steps is 200: the LCM sampler"),
        (["--sampler", "lcm", "--spacing", "trailing"], "spacing is trailing: the LCM sampler picks its own steps"),
        (["--spacing", "karras"], "spacing is karras: choose one of auto, leading, linspace, trailing"),
        (["--clip-skip", "0"], "clip skip is 0"),
        (["--scale", "-1"], "scale is -1"),
        (["--size", "4096x64", "--zoom", "4", "--out", "clip.webp"], "a frame is 16384x256: .webp takes 16383 pixels"),
        (["--size", "4096x4096", "--zoom", "16"], "a frame is 65536x65536: .gif takes 65535 pixels a side at most"),
        (
            ["--size", "4096x4096", "--zoom", "4", "--out", "clip.png"],
            "a frame is 16384x16384: give one of 64",
        ),
        (["--prompt", "half \ud83d"], "prompt is half"),
        (["--out", "clip.xyz"], "'.xyz' is no clip format"),
        (["--out", "nowhere/clip.gif"], "folder nowhere of nowhere/clip.gif does not exist"),
        (["--out", "full"], "folder full is not empty"),
        (["--out", ""], "no file name"),
        (["--checkpoint", "missing.safetensors"], "missing.safetensors does not exist"),
        (["--checkpoint", "empty.safetensors"], "empty.safetensors is empty"),
        (["--checkpoint", "truncated.safetensors"], "truncated.safetensors is damaged"),
        (["--checkpoint", "random.ckpt"], "random.ckpt is damaged"),
        (["--checkpoint", "folder"], "folder without model_index.json"),
        (["--checkpoint", "ink.safetensors"], "ink.safetensors is a LoRA of the image model, and no image model"),
        ([], "wrong.ckpt is a weights file of unknown kind, and no image model"),
        (["--motion", "missing.ckpt"], "missing.ckpt does not exist"),
        (["--motion", "folder"], "motion module folder is a folder: give the motion module file in it"),
        (["--motion", "wrong.ckpt"], "wrong.ckpt"),
        (["--motion", DEMO["motion"], "--family", "sdxl"], "family 'sdxl' does not fit this file; it can be v1 or v3"),
        (["--family", "v4"], "family is v4: choose one of auto, v1"),
        (["--embedding", "missing.pt"], "embedding missing.pt does not exist"),
        (["--vae", "missing.safetensors"], "VAE missing.safetensors does not exist"),
        (["--vae", "ink.safetensors"], "ink.safetensors is a LoRA of the image model, and no VAE"),
        (["--prediction", "x0"], "invalid choice: 'x0'"),
        (["--lora", "missing.safetensors=0.5"], "missing.safetensors does not exist"),
        (
            ["--motion-lora", "missing.safetensors:0.5"],
            "give a LoRA file (.safetensors, .sft, .ckpt, .pt, .pth, .bin), or FILE:weight",
        ),
        (["--style", "none.safetensors:0.5"], "style none.safetensors"),
        (["--motion-lora", "ink.safetensors:much"], "LoRA weight is 'much'"),
        (["--adapter", "missing.safetensors"], "domain adapter missing.safetensors does not exist"),
        (["--adapter-scale", "2"], "adapter scale is 2: give a number from 0 to 1"),
        (["--lora", "ink.safetensors=strong"], "LoRA weight is strong"),
        (["--prompt", "<lora:none:1>", "--lora-dir", "folder"], "there is no such file in folder"),
        (["--device", "abacus"], "device is abacus: choose one of auto"),
        (["--dtype", "int3"], "dtype is int3: choose one of auto"),
        (["--frames"], "expected one argument"),
        (["--wings", "2"], "unrecognized arguments: --wings 2"),
        (["--frame", "2"], "unrecognized arguments: --frame 2"),
    ],
)
def test_bad_input_to_render(options: list[str], words: str, room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(room.rglob("*"))
    assert cli.main([*RENDER, *options]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert words in printed.err
    assert printed.out == ""
    assert sorted(room.rglob("*")) == before


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([], "required"),
        (["paint"], "invalid choice: 'paint'"),
        (["render", "--prompt", "x", "--checkpoint", "wrong.ckpt"], "--out"),
        (["render", "--prompt", "x", "--out", "clip.gif"], "--checkpoint is missing: give one, or try --demo"),
        (["render", "--checkpoint", "wrong.ckpt", "--out", "clip.gif"], "--prompt is missing"),
        (["inspect"], "FILE"),
        (["inspect", "missing.safetensors"], "missing.safetensors does not exist"),
        (["inspect", "missing.gif"], "missing.gif does not exist"),
        (["inspect", "random.ckpt"], "random.ckpt is damaged"),
        (["inspect", "folder"], "folder"),
        (["train"], "RECIPE"),
    ],
)
def test_bad_input_to_the_others(
    command: list[str], words: str, room: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(command) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert words in printed.err


def test_memory_that_is_used_up_is_one_line(
    room: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(cli, "_describe_weights", full)
    assert cli.main(["inspect", "ink.safetensors"]) == 2
    assert capsys.readouterr().err.startswith("error: there is not enough memory: ")


def test_inspect_names_a_weights_file(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", "ink.safetensors"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["kind"], report["container"], report["parameters"]) == ("LoRA", "safetensors", 4)


def inspected(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert cli.main(["inspect", str(path)]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", ["a.mov", "a.avi", "a.JPG", "a.gif", "a"])
def test_inspect_names_a_clip(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    if name == "a.JPG":
        Image.new("RGB", (16, 16)).save(tmp_path / name, comment="Created by another")
    elif name == "a.gif":
        pages = [Image.new("RGB", (16, 16), (90 * shade, 0, 0)) for shade in range(3)]
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:], duration=100, comment=b"Made with GIMP")
    else:
        written = tmp_path / ("a" if name == "a" else "a.mp4")
        write(np.arange(3 * 16 * 16 * 3).astype(np.uint8).reshape(3, 16, 16, 3), written, 8, infotext(Clip("a cat")))
        written.rename(tmp_path / name)
    report = inspected(tmp_path / name, capsys)
    assert (report["kind"], report["frames"]) == ("clip", 1 if name == "a.JPG" else 3)
    assert (report["width"], report["height"]) == (16, 16) and report["parameters"]
    if name in ("a.JPG", "a.gif"):
        assert report["settings"] is None
    else:
        assert report["settings"]["prompt"] == "a cat"


def test_inspect_invents_no_settings_for_a_still_of_a_webui(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("parameters", "a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512")
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png", pnginfo=chunks)
    report = inspected(tmp_path / "a.png", capsys)
    assert report["parameters"].startswith("a cat") and report["settings"] is None


def test_every_setting_is_an_option_and_help_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        cli.main(["render", "--help"])
    assert done.value.code == 0
    text = capsys.readouterr().out
    assert all(row.flag in text for row in FIELDS.values())


def test_the_demo_is_a_valid_clip() -> None:
    assert all(row.parse(DEMO[name]) is not None for name, row in FIELDS.items() if name in DEMO)


def test_help_and_refusals_do_not_wait_for_torch() -> None:
    code = (
        "import sys; from motion.cli.main import main\n"
        "assert main(['render', '--demo', '--out', 'clip.gif', '--frames', '0']) == 2\n"
        "sys.exit('torch' in sys.modules)"
    )
    root = Path(render.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
