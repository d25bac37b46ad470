"""SparseCtrl's recipe: where an encoder begins, what of it learns, what it is shown, and what it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

import motion
import sparsectrl
from motion.cli import main as cli
from motion.errors import MotionError
from motion.hosts.standalone.checkpoint import open_parts
from motion.models.motion.architecture import Architecture
from motion.models.motion.model import MotionModel
from motion.training import loop
from motion.training import run as runs
from motion.training.conditions import CONDITIONS, Condition
from motion.training.files import save_image_model, save_motion_model
from motion.training.folder import find
from motion.training.image import ImageModel, Widths
from motion.training.loop import Plan
from motion.training.masks import MIXTURE
from motion.training.run import Run
from motion.training.sparse import OWN, Obeying, amplify, fresh_encoder, train_sparsectrl
from motion.video.read import read
from motion.video.sketch import sketch
from motion.video.write import write
from sparsectrl.encoder import Embedding, SparseEncoder

PLAN = Plan(steps=2, learning_rate=1e-2, warmup=1)
NARROW = Widths(unet=(32, 32, 32, 32), vae=(32, 32, 32, 32), text=32, text_layers=1)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, a motion module, a folder with two clips and one with images for them."""
    room = tmp_path_factory.mktemp("room")
    torch.manual_seed(0)
    save_image_model(ImageModel.build(NARROW), room / "base.safetensors", {})
    module = MotionModel(Architecture.of_unet("v3", NARROW.unet))
    for layer in module.slots.values():
        nn.init.normal_(layer.proj_out.weight, std=0.1)
    save_motion_model(module, room / "module.safetensors", {})
    for folder in ("data", "depth"):
        (room / folder).mkdir()
        for name in ("a", "b"):
            frames = np.random.default_rng(len(folder)).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
            write(frames, room / folder / f"{name}.gif", 8)
    return room


def job(room: Path, out: Path, **settings: Any) -> Run:
    common = {"size": (64, 64), "frames": 2, "stride": 1, "batch": 2, "module": room / "module.safetensors"}
    return Run(room / "base.safetensors", room / "data", out, **{**common, **settings})


def condition(room: Path, kind: str, **settings: Any) -> Condition:
    return Condition(folder=room / "depth", **settings) if kind == "depth" else Condition(kind, **settings)


def losses(path: Path) -> list[str]:
    return [row.split(",")[1] for row in path.with_suffix(".csv").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(room: Path) -> dict[str, Path]:
    """An encoder of each kind."""
    kinds = ("rgb", "scribble", "depth")
    return {kind: train_sparsectrl(job(room, room / "trained" / kind), condition(room, kind), PLAN) for kind in kinds}


def same(one: Path, other: Path) -> bool:
    """Whether two files hold the same tensors, bit by bit."""
    first, second = load_file(one), load_file(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("kind", ["rgb", "scribble", "depth"])
def test_it_leaves_a_file_that_the_loader_opens(kind: str, trained: dict[str, Path]) -> None:
    path = trained[kind]
    told = safe_open(path, framework="pt").metadata()
    assert (told["motion.recipe"], told["motion.condition"], told["motion.seed"]) == ("sparsectrl", kind, "0")
    assert len(told["motion.data"]) == 64 and told["motion.masks"].startswith("first:0.25")
    encoder = sparsectrl.load(path)
    assert (encoder.shape.condition, encoder.shape.embedding) == ((4, ()) if kind == "rgb" else (3, (16, 32, 32, 32)))
    assert all(zero.weight.any() for zero in (*encoder.controlnet_down_blocks, encoder.controlnet_mid_block))


def test_a_killed_run_goes_on_bit_equal(
    room: Path, trained: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY_SECONDS", -1.0)
    average, calls = loop._average, iter(range(2))

    def killed(*args: Any) -> None:
        if next(calls) == 1:
            raise KeyboardInterrupt
        average(*args)

    monkeypatch.setattr(loop, "_average", killed)
    with pytest.raises(KeyboardInterrupt):
        train_sparsectrl(job(room, tmp_path), Condition("scribble"), PLAN)
    monkeypatch.undo()
    again = train_sparsectrl(job(room, tmp_path), Condition("scribble"), PLAN)
    assert losses(trained["scribble"]) == losses(again)
    assert same(trained["scribble"], again)


class Setting:
    """A moving UNet with an encoder in training, and a step of it."""

    def __init__(self, room: Path, kind: str = "rgb", **settings: Any) -> None:
        self.unet = open_parts(room / "base.safetensors").unet.float()
        self.module = motion.load(room / "module.safetensors").float()
        torch.manual_seed(1)
        self.encoder = fresh_encoder(self.unet, self.module, Condition(kind, **settings))
        self.inputs = torch.randn(4, 4, 8, 8), torch.full((4,), 500), torch.randn(4, 77, 32)
        self.shown = torch.rand(2, 2, 4, 8, 8) if kind == "rgb" else torch.rand(2, 2, 3, 64, 64)

    def step(self) -> Tensor:
        def draw(rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
            return torch.zeros(2), torch.zeros(2), self.shown

        def loss(rng: np.random.Generator, latents: Tensor, texts: Tensor) -> Tensor:
            predicted: Tensor = self.unet(*self.inputs).sample
            return predicted.square().mean()

        with (
            motion.attach(self.unet, self.module, 2),
            Obeying(self.unet, self.encoder, draw, loss, MIXTURE) as loss_of,
        ):
            found = loss_of(0)
            found.backward()
        return found


@pytest.mark.parametrize("kind", CONDITIONS)
@pytest.mark.parametrize("small", [True, False])
def test_only_the_recipes_parameters_learn(room: Path, kind: str, small: bool) -> None:
    setting = Setting(room, kind, small=small)
    setting.step()
    nn.init.normal_(setting.encoder.controlnet_mid_block.weight)  # until it is not zero, nothing behind it learns
    setting.step()
    for name, parameter in setting.encoder.named_parameters():
        assert (parameter.grad is not None) is (not small or any(own in name for own in OWN)), name
    own = [p for name, p in setting.encoder.named_parameters() if "zero" in name or "controlnet_cond" in name]
    assert all(parameter.grad is not None for parameter in own)
    frozen = [*setting.unet.parameters(), *setting.module.parameters()]
    assert all(parameter.grad is None for parameter in frozen)
    assert not setting.unet._forward_pre_hooks


@pytest.mark.parametrize("kind", CONDITIONS)
def test_it_begins_as_if_it_were_not_there(room: Path, kind: str) -> None:
    setting = Setting(room, kind)
    with torch.no_grad(), motion.attach(setting.unet, setting.module, 2):
        plain = setting.unet(*setting.inputs).sample
        condition = torch.stack([sparsectrl.condition({0: clip[0]}, 2) for clip in setting.shown])
        with sparsectrl.attach(setting.unet, setting.encoder, condition, 2):
            assert torch.equal(setting.unet(*setting.inputs).sample, plain)


def test_it_is_a_copy_of_what_is_frozen(room: Path) -> None:
    setting = Setting(room)
    known = {**setting.module.state_dict(), **setting.unet.state_dict()}
    own = {name for name in setting.encoder.state_dict() if name.startswith("controlnet_")}
    for name, tensor in setting.encoder.state_dict().items():
        assert name in own or torch.equal(tensor, known[name]), name
    without = MotionModel(Architecture(setting.module.architecture.family, ()))
    layers = fresh_encoder(setting.unet, without, Condition()).down_blocks[0].motion_modules
    assert not any(layer["temporal_transformer"].proj_out.weight.any() for layer in layers)


def residuals(encoder: SparseEncoder, condition: Tensor, t: Tensor, context: Tensor) -> list[Tensor]:
    found: list[Tensor] = encoder(Embedding(encoder)(condition), t, context)
    return found


def test_amplified_is_a_scale(room: Path, trained: dict[str, Path]) -> None:
    encoder = sparsectrl.load(trained["rgb"]).float()
    inputs = sparsectrl.condition({0: torch.rand(4, 8, 8)}, 2), torch.full((2,), 500), torch.randn(2, 77, 32)
    with torch.no_grad():
        plain = residuals(encoder, *inputs)
        amplify(encoder, 2)
        assert all(torch.equal(twice, 2 * once) for twice, once in zip(residuals(encoder, *inputs), plain, strict=True))
        assert any(once.any() for once in plain)


@pytest.mark.parametrize("kind", CONDITIONS)
def test_a_frame_on_its_own_is_not_told_of_the_others(room: Path, kind: str, tmp_path: Path) -> None:
    path = train_sparsectrl(job(room, tmp_path), Condition(kind, per_frame=True), PLAN)
    encoder = sparsectrl.load(path).float()
    assert not encoder.shape.temporal
    size = 8 * encoder.shape.stride
    shown = torch.rand(2, encoder.shape.condition, size, size)
    inputs = torch.full((2,), 500), torch.randn(2, 77, 32)
    first, both = (
        residuals(encoder, sparsectrl.condition(keys, 2), *inputs) for keys in ({0: shown[0]}, dict(enumerate(shown)))
    )
    assert all(torch.equal(one[0], other[0]) for one, other in zip(first, both, strict=True))
    assert not any(torch.equal(one[1], other[1]) for one, other in zip(first, both, strict=True))


@pytest.mark.parametrize("settings", [{"checkpointing": True}, {"precision": "bf16"}])
def test_ways_to_save_memory(room: Path, trained: dict[str, Path], tmp_path: Path, settings: dict[str, Any]) -> None:
    other = train_sparsectrl(job(room, tmp_path, **settings), Condition(), PLAN)
    found, wanted = ([float(loss) for loss in losses(path)[1:]] for path in (other, trained["rgb"]))
    assert found == pytest.approx(wanted, rel={"precision": 0.1}.get(*settings, 1e-4))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")
@pytest.mark.parametrize("kind", ["rgb", "scribble"])
def test_samples_change_nothing(
    kind: str, room: Path, trained: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "SAMPLE_STEPS", 1)
    shown = train_sparsectrl(job(room, tmp_path, sample_every=2), condition(room, kind), PLAN)
    assert same(trained[kind], shown)
    assert read(tmp_path / "samples/000002.gif").frames.shape[1:] == (64, 64, 3)


def test_what_the_frames_show(room: Path, tmp_path: Path) -> None:
    sources = find(room / "data")
    frames = read(sources[0].path).frames
    found = {kind: condition(room, kind) for kind in ("rgb", "scribble", "depth")}
    images = {kind: made.images(made.images_for(sources)[0], (64, 64)) for kind, made in found.items()}
    assert (images["rgb"] == frames).all() and (images["scribble"] == sketch(frames)).all()
    assert (images["depth"] == read(room / "depth" / "a.gif").frames).all()


def test_a_sketch_is_white_lines_around_what_is_there() -> None:
    frame = np.full((1, 64, 64, 3), (22, 24, 82), np.uint8)
    frame[:, 16:48, 16:48] = (200, 40, 40)
    lines = sketch(frame)[0]
    assert set(np.unique(lines)) == {0, 255} and (lines == lines[..., :1]).all()
    rows, columns = np.nonzero(lines[..., 0])
    assert {rows.min(), columns.min()} <= {15, 16} and {rows.max(), columns.max()} <= {47, 48}
    assert not lines[20:44, 20:44].any() and not sketch(np.zeros_like(frame)).any()
    large = sketch(frame.repeat(8, 1).repeat(8, 2))[0]
    assert large.astype(bool).mean() == pytest.approx(lines.astype(bool).mean(), rel=0.7)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--condition", "smell"], "condition is smell: choose one of rgb, scribble"),
        (["--masks", "middle:1"], "masks is middle"),
        (["--conditions", "{room}/data/none"], "none is no folder"),
        (["--conditions", "{other}"], "holds no images for"),
        (["--conditions", "{short}"], "holds 2 images for the 3 frames of"),
    ],
)
def test_bad_input_is_one_line(
    options: list[str], words: str, room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = {name: tmp_path / name for name in ("other", "short")}
    for name, folder in folders.items():
        folder.mkdir()
        for clip in ("a", "b"):
            frames = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
            write(frames, folder / f"{clip if name == 'short' else 'z' + clip}.gif", 8)
    common = ["--checkpoint", str(room / "base.safetensors"), "--motion", str(room / "module.safetensors")]
    common += ["--data", str(room / "data"), "--out", str(tmp_path / "out"), "--size", "64x64", "--device", "cpu"]
    assert cli.main(["train", "sparsectrl", *common, *(text.format(room=room, **folders) for text in options)]) == 2
    printed = capsys.readouterr().err.splitlines()[-1]
    assert printed.startswith("error: ") and words in printed


def test_an_encoder_needs_a_module(room: Path, tmp_path: Path) -> None:
    with pytest.raises(MotionError, match="beside a motion module"):
        train_sparsectrl(job(room, tmp_path, module=None), Condition(), PLAN)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")
def test_the_command_trains_and_the_clip_obeys(room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--checkpoint", str(room / "base.safetensors"), "--motion", str(room / "module.safetensors")]
    common = [*files, "--data", str(room / "data"), "--out", str(tmp_path / "run"), "--device", "cpu", "--steps", "1"]
    common += ["--size", "64x64", "--frames", "2", "--stride", "1", "--batch", "2", "--masks", "first", "--small"]
    common += ["--learning-rate", "0.1"]
    assert cli.main(["train", "sparsectrl", *common, "--conditions", str(room / "depth")]) == 0
    path = capsys.readouterr().out.strip()
    write(np.zeros((1, 64, 64, 3), np.uint8), tmp_path / "key.png", 1)
    clip = ["--frames", "2", "--steps", "1", "--size", "64x64", "--device", "cpu", "--prompt", "", "--json"]
    clip += ["--out", str(tmp_path / "clip.gif"), "--sparsectrl", path, "--keyframe", f"0={tmp_path / 'key.png'}"]
    assert cli.main(["render", *files, *clip]) == 0
    assert float(json.loads(capsys.readouterr().out)["sparsectrl"]["SparseCtrl strength"]) > 0
