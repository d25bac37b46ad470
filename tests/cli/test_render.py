"""`render` from files to file: what it reports, what it writes into the clip, and what stands there afterwards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import save_file

from motion import video
from motion.cli import main as cli
from motion.cli import render as render_command
from motion.cli.inputs import use_recipe
from motion.fields.table import Size
from motion.settings.parameters import parse_infotext
from motion.settings.settings import Clip
from motion.video.read import read
from motion.weights.bundled import DEMO
from motion.weights.describe import describe
from motion.weights.formats.lora import TRIGGER

# diffusers 0.42 turns tensors into arrays in a way NumPy 2.4 frowns upon, whenever a scheduler holds sigmas.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")

COMMON = ["--prompt", "a red circle", "--steps", "2", "--frames", "3", "--size", "64x64", "--device", "cpu"]


def render(tiny: Path, out: Path, *options: str) -> list[str]:
    return ["render", "--checkpoint", str(tiny / "sd15.safetensors"), "--out", str(out), *COMMON, *options]


def test_a_clip_from_files_to_file(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "clip.gif"
    options = ["--motion", str(tiny / "v3.safetensors"), "--seed", "7", "--negative", "grey", "--json"]
    options += ["--sampler", "euler"]
    assert cli.main(render(tiny, out, *options)) == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert (report["path"], report["frames"], report["width"], report["seed"]) == (str(out), 3, 64, 7)
    assert "2/2" in printed.err
    assert video.read_parameters(out) == report["parameters"]
    clip, extra = parse_infotext(report["parameters"])
    assert clip == Clip(
        prompt="a red circle", negative="grey", steps=2, sampler="euler", frames=3, seed=7, size=Size(64, 64)
    )
    assert extra["Model hash"] == str(describe(tiny / "sd15.safetensors")["sha256"])[:10]
    assert (extra["Model"], extra["Motion module"]) == ("sd15", "v3")
    assert extra["Schedule type"] == "SGM Uniform"  # Euler's few steps, as the WebUI calls them

    assert cli.main(["inspect", str(out)]) == 0
    inspected = json.loads(capsys.readouterr().out)
    assert (inspected["kind"], inspected["frames"], inspected["fps"]) == ("clip", 3, pytest.approx(8, rel=0.05))
    assert inspected["settings"]["seed"] == 7


def test_a_random_seed_is_reported_and_draws_the_same_again(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    assert cli.main(render(tiny, first, "--frames", "1", "--json")) == 0
    report = json.loads(capsys.readouterr().out)
    assert cli.main(render(tiny, second, "--frames", "1", "--seed", str(report["seed"]))) == 0
    assert (video.read(first).frames == video.read(second).frames).all()


def test_zoom_enlarges_every_pixel(tiny: Path, tmp_path: Path) -> None:
    plain, zoomed = tmp_path / "plain.png", tmp_path / "zoomed.png"
    options = ("--frames", "1", "--seed", "7")
    assert cli.main(render(tiny, plain, *options)) == cli.main(render(tiny, zoomed, *options, "--zoom", "3")) == 0
    assert (video.read(plain).frames.repeat(3, axis=1).repeat(3, axis=2) == video.read(zoomed).frames).all()


def test_an_interrupt_leaves_nothing(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli._Bar, "__call__", interrupt)
    assert cli.main(render(tiny, tmp_path / "clip.gif")) == 130
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err.count("\n") == 1


def test_motion_loras_and_the_adapter_from_files(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layer = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0"
    spatial = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
    lora_file(tmp_path / "pan.safetensors", layer, **{TRIGGER: "slow pan"})
    lora_file(tmp_path / "look.safetensors", spatial)
    ours = [
        "--motion-lora",
        f"{tmp_path / 'pan.safetensors'}:0.8",
        "--adapter",
        str(tmp_path / "look.safetensors"),
    ]

    def drawn(name: str, *options: str) -> tuple[npt.NDArray[np.uint8], dict[str, str]]:
        common = ["--motion", str(tiny / "v3.safetensors"), "--seed", "7", "--json"]
        assert cli.main(render(tiny, tmp_path / name, *common, *options)) == 0
        found = parse_infotext(json.loads(capsys.readouterr().out)["parameters"])
        return video.read(tmp_path / name).frames, {"prompt": found[0].prompt, **found[1]}

    plain, _ = drawn("plain.webp")
    moved, said = drawn("moved.webp", *ours, "--adapter-scale", "0.5", "--trigger-words", "yes")
    assert (moved != plain).any()
    assert said["Motion LoRA"] == "pan:0.8" and said["Motion adapter"] == "look"
    assert said["prompt"] == "a red circle, slow pan"
    alone, _ = drawn("alone.webp", *ours[:2])
    assert (alone != moved).any() and (alone != plain).any()
    curved, said = drawn("curve.webp", "--motion-lora", f"{tmp_path / 'pan.safetensors'}:0: 0, -1: 0.8")
    assert (curved != alone).any() and (curved != plain).any()
    assert said["Motion LoRA"] == 'pan:"0: 0, -1: 0.8"'
    same, said = drawn("style.webp", "--style", f"{tiny / 'sd15.safetensors'}:0: 0.5, -1: 1")
    assert (same == plain).all() and said["Style"] == 'sd15:"0: 0.5, -1: 1"'
    nothing, said = drawn("zero.webp", "--motion-lora", f"{tmp_path / 'pan.safetensors'}:0", "--trigger-words", "yes")
    assert (nothing == plain).all() and said["prompt"] == "a red circle"

    swapped = ["--motion-lora", str(tmp_path / "look.safetensors")]
    for options, words in (
        (swapped, "is a domain adapter, and not a motion LoRA"),
        (["--adapter", str(tmp_path / "pan.safetensors")], "is a motion LoRA, and not a domain adapter"),
        (ours[:2], "give the motion module it was trained on"),
    ):
        assert cli.main(render(tiny, tmp_path / "no.webp", *options)) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "no.webp").exists()


def lora_file(path: Path, parent: str, **metadata: str) -> None:
    tensors = {f"{parent}.processor.to_q_lora.down.weight": torch.randn(4, 32)}
    save_file({**tensors, f"{parent}.processor.to_q_lora.up.weight": torch.randn(32, 4)}, path, metadata)


def test_a_module_for_another_base_is_refused(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(render(tiny, tmp_path / "clip.gif", "--motion", str(tiny / "adxl.safetensors"))) == 2
    assert "choose a motion module for sd15" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_files_in_each_others_place_are_refused(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    swapped = ["--checkpoint", str(tiny / "v3.safetensors"), "--motion", str(tiny / "sd15.safetensors")]
    for options in (swapped, swapped[:2]):
        assert cli.main(["render", "--out", str(tmp_path / "clip.gif"), *COMMON, *options]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_it_draws_without_a_network_or_a_cache(tiny: Path, tmp_path: Path) -> None:
    """A process of its own, in which every socket refuses to connect and no cache holds a file."""
    code = (
        "import socket, sys\n"
        "def refuse(*_): raise OSError('the network was asked')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from motion.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "empty")}
    arguments = render(tiny, tmp_path / "clip.webp", "--motion", str(tiny / "v3.safetensors"))
    root = Path(render_command.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "3 frames of 64x64" in done.stdout
    assert (tmp_path / "clip.webp").stat().st_size > 0


def test_the_demo_needs_no_file(tmp_path: Path) -> None:
    out = tmp_path / "demo.gif"
    assert cli.main(["render", "--demo", "--out", str(out), "--steps", "2", "--device", "cpu"]) == 0
    assert video.read(out).frames.shape == (16, 256, 256, 3)


def test_a_few_step_module_brings_its_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is typed stays, and what contradicts it is said."""
    module = tmp_path / "animatediff_lightning_2step_comfyui.safetensors"
    shutil.copy(DEMO["motion"], module)
    command = ["render", "--demo", "--motion", str(module), "--frames", "1", "--device", "cpu", "--seed", "1"]
    note = "note: AnimateDiff-Lightning, 2 steps was distilled for"
    for options, steps, cfg, said in ((["--cfg", "2"], 2, 2.0, ""), (["--steps", "1"], 1, 1.0, note)):
        assert cli.main([*command, *options, "--out", str(tmp_path / "clip.png")]) == 0
        clip, _ = parse_infotext(read(tmp_path / "clip.png").parameters or "")
        assert (clip.sampler, clip.steps, clip.cfg) == ("euler", steps, cfg)
        errors = capsys.readouterr().err
        assert said in errors and ("note" in errors) is bool(said)


@pytest.mark.parametrize("there", [False, True])
def test_the_lora_of_a_few_step_module_is_taken_from_beside_it(tmp_path: Path, there: bool) -> None:
    module, lora = (tmp_path / f"AnimateLCM_sd15_t2v{end}" for end in (".ckpt", "_lora.safetensors"))
    if there:
        lora.touch()
    settled, note = use_recipe({"motion": str(module), "lora": []}, {"steps": "4"})
    assert (settled["sampler"], settled["steps"], settled["cfg"]) == ("lcm", "4", "1.5")
    assert settled["lora"] == ([f"{lora}=0.8"] if there else [])
    assert (lora.stem in note) is not there
    typed = {"motion": str(module), "lora": ["lcm-lora-sdv1-5.safetensors=1"]}
    assert use_recipe(typed, {}) == ({**typed, **settled, "lora": typed["lora"], "steps": "6"}, "")
