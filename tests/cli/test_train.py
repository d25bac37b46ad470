"""The recipes from the command line: what they leave, and what they refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import motion
import sparsectrl
from motion.cli import main as cli
from motion.demo import parts as sprite_parts
from motion.demo import recipes as sprites
from motion.weights.bundled import DEMO
from motion.weights.describe import describe

BOTH = ["--checkpoint", DEMO["checkpoint"], "--motion", DEMO["motion"]]


def test_the_whole_program_in_miniature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("VAE_CROPS", "VAE_WHOLE"):
        monkeypatch.setattr(sprites, name, replace(getattr(sprites, name), steps=1))
    for name in ("CLIPS", "VAE_BATCH", "IMAGE_BATCH", "MOTION_BATCH"):
        monkeypatch.setattr(sprites, name, 2)
    for name in ("SPARSECTRL_BATCH", "ADAPTER_BATCH", "MARKED_CLIPS", "LORA_BATCH", "LORA_CLIPS"):
        monkeypatch.setattr(sprite_parts, name, 2)
    monkeypatch.setattr(sprite_parts, "CAMERA", sprite_parts.CAMERA[:2])
    assert cli.main(["train", "sprites", "--out", str(tmp_path), "--device", "cpu", "--steps", "1"]) == 0
    base, module, personal, *parts = (Path(line) for line in capsys.readouterr().out.splitlines())
    assert [describe(path)["kind"] for path in (base, module, personal)] == [
        describe(Path(DEMO[name]))["kind"] for name in ("checkpoint", "motion", "checkpoint")
    ]
    assert [sparsectrl.load(path).shape.stride for path in parts[:2]] == [1, 8]
    assert [motion.lora.load(path).target for path in parts[2:]] == ["image", *["motion"] * 2]
    assert base.with_suffix(".yaml").is_file()

    arguments = ["--checkpoint", str(base), "--motion", str(module), "--steps", "2", "--device", "cpu"]
    arguments += ["--stills", "2", "--clips", "1"]
    assert cli.main(["train", "evaluate", *arguments]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert {"still_right", "direction", "constant", "constant_without_module"} <= figures.keys()
    assert all(0 <= share <= 1 for share in figures.values())
    assert cli.main(["train", "evaluate", *arguments, "--adapter", str(parts[2])]) == 0
    assert json.loads(capsys.readouterr().out).keys() == figures.keys()
    of_move = ["--motion-lora", str(parts[3]), "--move", sprite_parts.CAMERA[0]]
    assert cli.main(["train", "evaluate", *arguments, *of_move]) == 0
    assert 0 <= json.loads(capsys.readouterr().out)["flow_right"] <= 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["motion", "--out", "x", "--checkpoint", "missing.safetensors"], "missing.safetensors"),
        (["image", "--out", "x", "--look", "neon"], "--base"),
        (["image", "--out", "x", "--base", "missing.safetensors"], "missing.safetensors"),
        (["image", "--out", "x", "--steps", "0"], "'0'"),
        (["image", "--out", "x", "--steps", "many"], "'many'"),
        (["image", "--out", "x", "--device", "abacus"], "abacus"),
        (["image"], "--out"),
        (["evaluate", "--checkpoint", "missing.safetensors"], "missing.safetensors"),
        (["evaluate", "--checkpoint", DEMO["checkpoint"], "--motion", "missing.ckpt"], "missing.ckpt"),
        (["evaluate", "--checkpoint", DEMO["checkpoint"], "--sparsectrl", DEMO["motion"]], "--motion"),
        (["evaluate", *BOTH, "--motion-lora", DEMO["motion"], "--move", "roll-clockwise"], "roll-clockwise"),
        (["evaluate", "--checkpoint", DEMO["checkpoint"], "--motion-lora", DEMO["motion"]], "--motion"),
        (["evaluate", "--checkpoint", DEMO["checkpoint"], "--adapter", "missing.ckpt"], "missing.ckpt"),
        (["sprite-clips", "--out", "x", "--clips", "0"], "'0'"),
        (["sparsectrl", "--out", "x", "--checkpoint", DEMO["checkpoint"], "--motion", "missing.ckpt"], "missing.ckpt"),
        (["sparsectrl", "--out", "x", "--checkpoint", DEMO["checkpoint"]], "--motion"),
        (["sparsectrl", "--out", "x", "--checkpoint", "c", "--motion", "m", "--conditions", "."], "--data"),
        (["motion", "--out", "x", "--checkpoint", "c", "--size", "512x512"], "--size is for clips of your own"),
        (["motion", "--out", "x", "--checkpoint", "c", "--bf16"], "--bf16 is for clips of your own"),
        (["motion", "--out", "x", *BOTH], "--motion is for clips of your own"),
        (["sparsectrl", "--out", "x", *BOTH, "--sample-every", "5"], "--sample-every is for"),
        (["juggling"], "juggling"),
        ([], "RECIPE"),
    ],
)
def test_bad_input_ends_with_one_line(
    arguments: list[str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *arguments]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert named in printed.err
    assert list(tmp_path.iterdir()) == []
