"""Adapter, motion module and motion LoRA from a folder: what moves, what stays, and that a killed run goes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

import motion
from motion.cli import main as cli
from motion.errors import MotionError
from motion.hosts.standalone.checkpoint import open_parts
from motion.models import sites
from motion.models.motion.architecture import Architecture
from motion.models.motion.model import MotionModel
from motion.models.one_shot import OneShotModel
from motion.training import recipes, run
from motion.training.files import save_image_model, save_motion_model
from motion.training.image import IMAGE_BETAS, ImageModel, Widths
from motion.training.loop import Plan
from motion.training.lora import LoraWeights, adapter_layers, motion_layers
from motion.training.motion_module import NOISIEST
from motion.training.one_shot import train_one_shot
from motion.training.run import Run
from motion.video.read import read
from motion.video.write import write
from motion.weights.formats.lora import TRIGGER, Lora, load, to_authors, to_diffusers

PLAN = Plan(steps=2, learning_rate=1e-2, warmup=1)
NARROW = Widths(unet=(32, 32, 32, 32), vae=(32, 32, 32, 32), text=32, text_layers=1)
RECIPES: dict[str, Callable[[Run, Plan], Path]] = {
    "adapter": recipes.train_adapter,
    "motion": recipes.train_motion_module,
    "motion-lora": recipes.train_motion_lora,
    "one-shot": lambda run, plan: train_one_shot(replace(run, data=run.data / "a.gif"), "clip a", plan),
}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, a motion module and a folder with two clips."""
    room = tmp_path_factory.mktemp("room")
    torch.manual_seed(0)
    save_image_model(ImageModel.build(NARROW), room / "base.safetensors", {})
    module = MotionModel(Architecture.of_unet("v3", NARROW.unet))
    for layer in module.slots.values():
        nn.init.normal_(layer.proj_out.weight, std=0.1)
    save_motion_model(module, room / "module.safetensors", {})
    (room / "data").mkdir()
    for name in ("a", "b"):
        frames = np.random.default_rng(ord(name)).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
        write(frames, room / f"data/{name}.gif", 8)
        (room / f"data/{name}.txt").write_text(f"clip {name}")
    return room


def job(room: Path, out: Path, **settings: Any) -> Run:
    files = {"module": room / "module.safetensors"}
    common = {"size": (64, 64), "frames": 2, "stride": 1, "batch": 2, "rank": 2, "trigger": "slow pan"}
    asked: dict[str, Any] = {"data": room / "data", **files, **common, **settings}
    return Run(room / "base.safetensors", out=out, **asked)


def tensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no dictionary)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_leaves_a_file_that_the_extension_opens(name: str, room: Path, tmp_path: Path) -> None:
    path = RECIPES[name](job(room, tmp_path), PLAN)
    metadata = safe_open(path, framework="pt").metadata()
    assert metadata["motion.recipe"] == name and metadata[TRIGGER] == "slow pan" and metadata["motion.data"]
    if name == "motion":
        trained, before = motion.load(path).state_dict(), motion.load(room / "module.safetensors").state_dict()
        learned = {key for key in before if not key.endswith(".pe")}
        assert not any(torch.equal(before[key], trained[key]) for key in learned)
        return
    if name == "one-shot":
        check_one_shot(room, path)
        return
    lora = load(path)
    assert lora.target == ("image" if name == "adapter" else "motion") and lora.trigger == "slow pan"
    assert all(pair.scale == 1 for pair in lora.pairs.values())
    assert all(pair.up.any() for name, pair in lora.pairs.items() if name.endswith("to_v"))  # one place has one query
    unet, module = open_parts(room / "base.safetensors").unet, motion.load(room / "module.safetensors")
    with motion.lora.attach(unet, module, [(lora, 1.0)]):
        pass
    if name == "motion-lora":
        assert metadata["motion.family"] == "v3"


def check_one_shot(room: Path, path: Path) -> None:
    """It holds what is tuned and the norms alone, and of a UNet that began as the image model all of it has moved."""
    blocks = sites.spatial_blocks(open_parts(room / "base.safetensors").unet)
    new, trained = OneShotModel.of_blocks(blocks).state_dict(), tensors(path)
    assert trained.keys() == new.keys() and len(trained) == 9 * len(blocks)
    moved = {name for name in new if not torch.equal(trained[name], new[name].half())}
    moved.add("mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight")  # two frames of one place have one key
    assert {name for name in new if "norm_temp" not in name} == moved
    motion.one_shot.load(path)


@pytest.mark.parametrize("name", RECIPES)
def test_a_killed_run_goes_on_bit_equal(name: str, room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motion.training.loop.SAVE_EVERY_SECONDS", -1.0)
    whole = tensors(RECIPES[name](job(room, tmp_path / "whole"), PLAN))
    monkeypatch.setattr("motion.training.loop._average", killed_in_step(1))
    with pytest.raises(KeyboardInterrupt):
        RECIPES[name](job(room, tmp_path / "killed"), PLAN)
    monkeypatch.undo()
    again = tensors(RECIPES[name](job(room, tmp_path / "killed"), PLAN))
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    losses = [(tmp_path / run / f"{name}.csv").read_text().splitlines() for run in ("whole", "killed")]
    assert [row.split(",")[1] for row in losses[0]] == [row.split(",")[1] for row in losses[1]]


def killed_in_step(step: int) -> Callable[..., None]:
    from motion.training.loop import _average

    calls = iter(range(100))

    def average(*args: Any) -> None:
        if next(calls) == step:
            raise KeyboardInterrupt
        _average(*args)

    return average


@pytest.mark.parametrize("debias", [False, True])
def test_debiased_losses_weigh_the_noisiest_steps(room: Path, tmp_path: Path, debias: bool) -> None:
    """A UNet that predicts nothing has the noise itself as its error."""
    kept = IMAGE_BETAS.alphas_cumprod()
    seen: list[Tensor] = []

    def unet(noised: Tensor, times: Tensor, context: Tensor) -> SimpleNamespace:
        seen.append(times)
        return SimpleNamespace(sample=torch.zeros_like(noised))

    loss_of = run.noise_loss_of(job(room, tmp_path, debias=debias), unet, IMAGE_BETAS)  # type: ignore[arg-type]
    loss = loss_of(np.random.default_rng(0), torch.randn(300, 2, 4, 8, 8), torch.zeros(300, 1, 1))
    (times,) = seen
    assert (times >= NOISIEST).float().mean() == pytest.approx(0.65 if debias else 0.3, abs=0.08)
    weights = ((1 - kept[times]) / kept[times]).sqrt() if debias else torch.ones(600)
    assert float(loss) == pytest.approx(float(weights.mean()), rel=0.03)


@pytest.mark.parametrize("settings", [{"checkpointing": True}, {"move": "zoom-in"}, {"precision": "bf16"}])
def test_ways_to_train_a_motion_lora(room: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    plain, other = (
        [float(row.split(",")[1]) for row in (path.parent / "motion-lora.csv").read_text().splitlines()[1:]]
        for path in (
            recipes.train_motion_lora(job(room, tmp_path / "plain"), PLAN),
            recipes.train_motion_lora(job(room, tmp_path / "other", **settings), PLAN),
        )
    )
    assert other == pytest.approx(plain, rel={"precision": 0.1, "checkpointing": 1e-4}.get(*settings, 1.0))
    assert (other == plain) is (list(settings) == ["checkpointing"])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")
@pytest.mark.parametrize("name", RECIPES)
def test_samples_show_what_is_learned_and_change_nothing(
    name: str, room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "SAMPLE_STEPS", 2)
    plain = tensors(RECIPES[name](job(room, tmp_path / "plain"), PLAN))
    shown = tensors(RECIPES[name](job(room, tmp_path / "shown", sample_every=1), PLAN))
    assert all(torch.equal(plain[key], shown[key]) for key in plain)
    suffix = "png" if name == "adapter" else "gif"
    pictures = [read(tmp_path / f"shown/samples/00000{step}.{suffix}").frames for step in (1, 2)]
    assert pictures[0].shape[1:] == (64, 64, 3) and (pictures[0] != pictures[1]).any()


def test_accumulated_losses_are_one_larger_batch(room: Path, tmp_path: Path) -> None:
    path = recipes.train_adapter(job(room, tmp_path), replace(PLAN, accumulate=3))
    assert len((path.parent / "adapter.csv").read_text().splitlines()) == 1 + PLAN.steps


def test_only_the_recipes_parameters_learn_and_it_begins_as_if_it_were_not_there(room: Path) -> None:
    unet, module = open_parts(room / "base.safetensors").unet.float(), motion.load(room / "module.safetensors").float()
    x, t, c = torch.randn(3, 4, 16, 16), torch.full((3,), 500), torch.randn(3, 77, 32)
    with torch.no_grad(), motion.attach(unet, module, 3):
        plain = unet(x, t, c).sample
    for layers, target in ((adapter_layers(unet), "image"), (motion_layers(module), "motion")):
        weights = LoraWeights(layers, target, rank=2)  # type: ignore[arg-type]
        with motion.attach(unet, module, 3), motion.lora.attach(unet, module, [(weights.lora, 1.0)]):
            with torch.no_grad():
                assert torch.equal(unet(x, t, c).sample, plain)
            unet(x, t, c).sample.square().mean().backward()
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in weights.up)
        assert all(parameter.grad is None for part in (unet, module) for parameter in part.parameters())


def test_written_names_are_read_back_whole(room: Path, tmp_path: Path) -> None:
    unet, module = open_parts(room / "base.safetensors").unet, motion.load(room / "module.safetensors")
    for layers, target in ((adapter_layers(unet), "image"), (motion_layers(module), "motion")):
        made = LoraWeights(layers, target, rank=2).requires_grad_(False)  # type: ignore[arg-type]
        nn.init.normal_(made.up[0])
        for spelled in (to_authors, to_diffusers):
            found = read_back(spelled(made.lora), tmp_path / "x.safetensors")
            assert found.target == target and found.pairs.keys() == made.lora.pairs.keys()
            for name, pair in made.lora.pairs.items():
                assert torch.equal(found.pairs[name].up, pair.up) and torch.equal(found.pairs[name].down, pair.down)


def read_back(state: dict[str, Tensor], path: Path) -> Lora:
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return load(path)


def test_a_broken_clip_is_named(room: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "broken.mp4").write_bytes(b"no film")
    with pytest.raises(MotionError, match=r"broken\.mp4 is no clip"):
        recipes.train_adapter(replace(job(room, tmp_path / "out"), data=tmp_path / "data"), PLAN)


def test_a_checkpoint_that_predicts_velocity_is_refused(room: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "velocity.safetensors"
    shutil.copy(room / "base.safetensors", checkpoint)
    checkpoint.with_suffix(".yaml").write_text("model: {params: {parameterization: v}}")
    with pytest.raises(MotionError, match=r"velocity\.safetensors is a v-prediction checkpoint"):
        recipes.train_adapter(replace(job(room, tmp_path / "out"), checkpoint=checkpoint), PLAN)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["adapter", "--out", "x", "--checkpoint", "none.safetensors", "--data", "."], "none.safetensors does not"),
        (["adapter", "--out", "x", "--checkpoint", "none.safetensors"], "--data"),
        (["motion-lora", "--out", "x", "--checkpoint", "c", "--data", "."], "--motion"),
        (
            ["motion-lora", "--out", "x", "--checkpoint", ".", "--motion", ".", "--data", ".", "--move", "fly"],
            "move is fly",
        ),
        (
            ["motion-lora", "--out", "x", "--checkpoint", ".", "--motion", ".", "--data", ".", "--size", "9"],
            "size is 9",
        ),
        (["adapter", "--out", "x", "--checkpoint", ".", "--data", ".", "--learning-rate", "-1"], "'-1'"),
        (["adapter", "--out", "x", "--checkpoint", ".", "--data", ".", "--fp16", "--device", "cpu"], "fp16 on cpu"),
        (["adapter", "--out", "x", "--checkpoint", ".", "--data", ".", "--fp16", "--bf16"], "not allowed with"),
    ],
)
def test_bad_input_is_one_line(
    command: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *command]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and words in printed.err
    assert list(tmp_path.iterdir()) == []


def test_the_command_trains(room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--checkpoint", str(room / "base.safetensors"), "--data", str(room / "data"), "--device", "cpu"]
    common += ["--size", "64x64", "--frames", "2", "--stride", "1", "--batch", "2", "--steps", "1"]
    for recipe, options in (
        ("adapter", ["--rank", "2"]),
        ("motion", []),
        ("motion-lora", ["--rank", "2", "--motion", str(room / "module.safetensors"), "--move", "pan-left"]),
    ):
        assert cli.main(["train", recipe, "--out", str(tmp_path / recipe), *common, *options]) == 0
        path = Path(capsys.readouterr().out.strip())
        assert path == tmp_path / recipe / f"{recipe}.safetensors" and path.is_file()


def test_a_run_may_lie_within_its_data_but_not_be_it(
    room: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(room / "data", tmp_path / "data")
    with pytest.raises(MotionError, match="is the data itself"):
        job(room, tmp_path / "data" / ".." / "data", data=tmp_path / "data")
    first = run.prepare(job(room, tmp_path / "data" / "run", data=tmp_path / "data", frames=50))
    assert "shorter than 50 frames 1 apart" in caplog.text
    again = run.prepare(job(room, tmp_path / "data" / "run", data=tmp_path / "data", frames=50))
    assert (again.digest, again.clips.files) == (first.digest, first.clips.files)
