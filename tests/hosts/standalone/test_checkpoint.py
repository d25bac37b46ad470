"""Opening image models: from shapes alone, every weight in its place, everything else refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from motion.errors import MotionError
from motion.hosts.standalone import Standalone
from motion.hosts.standalone.checkpoint import open_parts
from motion.hosts.standalone.formats import shapes
from motion.hosts.standalone.parts import Parameterization, Parts
from motion.hosts.standalone.text.tokens import clip_tokenizer
from tests.support.small import far

UNET, VAE = "model.diffusion_model.", "first_stage_model."
EPSILON, VELOCITY = Parameterization(), Parameterization("v_prediction")
SGM = "{target: sgm.modules.diffusionmodules.denoiser_scaling.VScaling}"


def assert_same(parts: Parts, originals: tuple[nn.Module, ...]) -> None:
    opened = (parts.unet, parts.vae, *(encoder.model for encoder in parts.encoders))
    for ours, theirs in zip(opened, originals, strict=True):
        ours, theirs = ours.state_dict(), theirs.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name].float(), theirs[name].float()) for name in theirs)


@pytest.fixture
def state(tiny: Path) -> dict[str, Tensor]:
    return load_file(tiny / "sd15.safetensors")


def saved(state: dict[str, Tensor], folder: Path) -> Path:
    save_file(state, folder / "model.safetensors")
    return folder / "model.safetensors"


def test_every_weight_of_sd15_comes_back(tiny: Path, sd15_originals: tuple[nn.Module, ...]) -> None:
    parts = open_parts(tiny / "sd15.safetensors")
    assert parts.base == "sd15"
    assert_same(parts, sd15_originals)


def test_every_weight_of_sdxl_comes_back(tiny: Path, sdxl_originals: tuple[nn.Module, ...]) -> None:
    parts = open_parts(tiny / "sdxl.safetensors")
    assert parts.base == "sdxl"
    assert_same(parts, sdxl_originals)


def test_the_models_compute_what_the_originals_do(tiny: Path, sdxl_originals: tuple[nn.Module, ...]) -> None:
    """Equal weights in a model of another configuration would give other numbers."""
    parts, (unet, vae, *_) = open_parts(tiny / "sdxl.safetensors"), sdxl_originals
    torch.manual_seed(2)
    context, added = torch.randn(1, 77, 96), {"text_embeds": torch.randn(1, 64), "time_ids": torch.ones(1, 6)}
    arguments: dict[str, Any] = {"encoder_hidden_states": context, "added_cond_kwargs": added, "return_dict": False}
    latents = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        assert far(parts.unet(latents, 5, **arguments)[0], unet(latents, 5, **arguments)[0]) <= 1e-5
        assert far(parts.vae.decode(latents).sample, vae.decode(latents).sample) <= 1e-5


def test_published_sizes_are_read_from_published_shapes() -> None:
    """SDXL's own UNet and text encoder, known by a handful of their shapes."""
    unet = {"input_blocks.0.0.weight": (320, 4, 3, 3), "out.2.weight": (4, 320, 3, 3)}
    for block, width, depth in ((1, 320, 0), (2, 320, 0), (4, 640, 2), (5, 640, 2), (7, 1280, 10), (8, 1280, 10)):
        unet[f"input_blocks.{block}.0.in_layers.2.weight"] = (width, width, 3, 3)
        unet |= {f"input_blocks.{block}.1.transformer_blocks.{i}.norm1.weight": (width,) for i in range(depth)}
    unet |= {f"input_blocks.{block}.0.op.weight": (1, 1, 3, 3) for block in (3, 6)}
    unet |= {f"middle_block.1.transformer_blocks.{i}.attn2.to_k.weight": (1280, 2048) for i in range(10)}
    unet["middle_block.1.proj_in.weight"] = (1280, 1280)
    config = shapes.unet_config({name: torch.empty(shape, device="meta") for name, shape in unet.items()}, sdxl=True)
    assert config["block_out_channels"] == [320, 640, 1280]
    assert config["attention_head_dim"] == [5, 10, 20]
    assert config["transformer_layers_per_block"] == [1, 2, 10]
    assert config["down_block_types"] == ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"]
    assert (config["layers_per_block"], config["cross_attention_dim"]) == (2, 2048)
    assert shapes.added_condition_config(2816, 1280)["addition_time_embed_dim"] == 256


def test_files_as_they_are_found(state: dict[str, Tensor], tmp_path: Path, sd15_originals: Any) -> None:
    """Half precision, moving averages, position ids, text keys of 2022, and a pickle."""
    found = {key.replace("transformer.text_model.", "transformer."): tensor.half() for key, tensor in state.items()}
    found |= {f"model_ema.{i}": torch.zeros(1) for i in range(200)}
    found["cond_stage_model.transformer.embeddings.position_ids"] = torch.arange(77)[None]
    torch.save({"state_dict": found, "global_step": 1}, tmp_path / "old.ckpt")
    parts = open_parts(tmp_path / "old.ckpt")
    assert parts.unet.dtype == torch.float16
    assert_same(parts, tuple(part.half() for part in sd15_originals))


def test_a_moving_average_alone_is_the_model(
    state: dict[str, Tensor], tmp_path: Path, sd15_originals: tuple[nn.Module, ...]
) -> None:
    average = {"model_ema." + key.removeprefix("model.").replace(".", ""): state[key] for key in state if UNET in key}
    average |= {"model_ema.decay": torch.tensor(0.99), "model_ema.num_updates": torch.tensor(1)}
    assert_same(open_parts(saved(average | without(state, UNET), tmp_path)), sd15_originals)


def test_a_vae_of_its_own_file(state: dict[str, Tensor], tmp_path: Path, sd15_originals: tuple[nn.Module, ...]) -> None:
    """For a checkpoint without one, and in place of a checkpoint's own; under LDM's names, a checkpoint's, diffusers'
    of today and of 2023."""
    unet, vae, text = sd15_originals
    own = {key: tensor for key, tensor in state.items() if key.startswith(VAE)}
    other = {key: torch.zeros_like(own[key]) for key in own}
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    names = {name: name for name in vae.state_dict()}
    files = {
        "ldm": {key.removeprefix(VAE): own[key] for key in own} | {"loss.logvar": torch.zeros(1)},
        "checkpoint": state,
        "diffusers": vae.state_dict(),
    }
    for new, was in old.items():
        names = {name: spelled.replace(f".{new}.", f".{was}.") for name, spelled in names.items()}
    files["2023"] = {spelled: vae.state_dict()[name] for name, spelled in names.items()}
    without_any = saved(without(state, VAE), tmp_path)
    with_another = tmp_path / "another.safetensors"
    save_file({**state, **other}, with_another)
    written_folder(tmp_path / "folder", (unet, vae, text))
    for name, tensors in files.items():
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, tmp_path / f"{name}.safetensors")
        checkpoint = with_another if name == "ldm" else without_any
        assert_same(open_parts(checkpoint, vae=tmp_path / f"{name}.safetensors"), sd15_originals)
    shutil.rmtree(tmp_path / "folder" / "vae")
    assert_same(open_parts(tmp_path / "folder", vae=tmp_path / "ldm.safetensors"), sd15_originals)


@pytest.mark.parametrize(
    ("file", "answer"),
    [
        ({"tensors": {"v_pred": torch.zeros(0)}}, VELOCITY),
        ({"tensors": {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}}, Parameterization("v_prediction", True)),
        ({"tensors": {"ztsnr": torch.zeros(0)}}, EPSILON),
        ({"metadata": {"modelspec.prediction_type": "v"}}, VELOCITY),
        ({"metadata": {"modelspec.prediction_type": "epsilon"}}, EPSILON),
        ({"config": "model:\n  params:\n    parameterization: v\n"}, VELOCITY),
        ({"config": "model:\n  params:\n    parameterization: eps\n"}, EPSILON),
        ({"config": f"model: {{params: {{denoiser_config: {{params: {{scaling_config: {SGM}}}}}}}}}"}, VELOCITY),
        ({"config": "model: {params: {}}", "prediction": "v"}, VELOCITY),
        ({"tensors": {"v_pred": torch.zeros(0)}, "prediction": "epsilon"}, EPSILON),
        ({"prediction": "auto"}, EPSILON),
    ],
)
def test_what_a_unet_predicts_is_read_or_said(
    file: dict[str, Any], answer: Parameterization, state: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    save_file({**state, **file.get("tensors", {})}, path, file.get("metadata"))
    if "config" in file:
        path.with_suffix(".yaml").write_text(file["config"])
    assert open_parts(path, prediction=file.get("prediction", "auto")).parameterization == answer


def test_a_configuration_that_is_none_is_named(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = saved(state, tmp_path)
    for text in ("", "model: [", "model: {params: []}", "- 1", "!!python/object/apply:os.getcwd []"):
        path.with_suffix(".yaml").write_text(text)
        with pytest.raises(MotionError, match=r"model\.yaml beside it that is no configuration"):
            open_parts(path)


@pytest.mark.parametrize("options", [{"variant": "fp16"}, {"safe_serialization": False}], ids=str)
@pytest.mark.parametrize("shards", [None, "1MB"])
def test_folders_as_they_are_published(
    options: dict[str, Any], shards: str | None, tmp_path: Path, sd15_originals: tuple[nn.Module, ...]
) -> None:
    """Whole or in shards, in half precision under names of its own, and as pickles."""
    whole = {} if shards is None else {"max_shard_size": shards}
    half = tuple(part.half() for part in sd15_originals) if options.get("variant") else sd15_originals
    written_folder(tmp_path / "folder", half, **options, **whole)
    if shards is not None:
        assert len(list((tmp_path / "folder" / "unet").glob("*-of-*"))) > 1
    assert_same(open_parts(tmp_path / "folder"), half)


@pytest.mark.parametrize(
    ("scheduler", "answer"),
    [
        ({"prediction_type": "v_prediction"}, VELOCITY),
        ({"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}, Parameterization("v_prediction", True)),
        ({"prediction_type": "sample"}, "predicts 'sample'"),
        ({"_class_name": "EDMEulerScheduler", "prediction_type": "v_prediction"}, "EDM model"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "flow matching"),
    ],
)
def test_a_folder_says_what_its_unet_predicts(
    scheduler: dict[str, Any], answer: Any, tmp_path: Path, sd15_originals: tuple[nn.Module, ...]
) -> None:
    written_folder(tmp_path, sd15_originals)
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    if isinstance(answer, Parameterization):
        assert open_parts(tmp_path).parameterization == answer
        return
    with pytest.raises(MotionError, match=answer):
        open_parts(tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"cross_attention_dim": 1024}, "Stable Diffusion 2"),
        ({"use_linear_projection": True}, "Stable Diffusion 2"),
        ({"time_cond_proj_dim": 256}, "told the guidance"),
    ],
)
def test_folders_of_other_models_are_refused_by_name(
    change: dict[str, Any], sentence: str, tmp_path: Path, sd15_originals: tuple[nn.Module, ...]
) -> None:
    unet, *others = sd15_originals
    config = {name: value for name, value in unet.config.items() if name != "_use_default_values"}
    written_folder(tmp_path, (type(unet).from_config({**config, **change}), *others))
    with pytest.raises(MotionError, match=sentence):
        open_parts(tmp_path)


def test_a_diffusers_folder_is_the_same_model(tmp_path: Path, sd15_originals: tuple[nn.Module, ...]) -> None:
    folder = tmp_path / "folder"
    written_folder(folder, sd15_originals)
    assert_same(open_parts(folder), sd15_originals)


@pytest.mark.parametrize(
    ("options", "beside"),
    [
        ({"safe_serialization": False}, {"variant": "fp16"}),
        ({"variant": "fp16"}, {"variant": "non_ema"}),
        ({"variant": "fp16"}, {}),
    ],
)
def test_of_several_weights_one_is_taken_and_other_programs_are_left(
    options: dict[str, Any], beside: dict[str, Any], tmp_path: Path, sd15_originals: tuple[nn.Module, ...]
) -> None:
    written_folder(tmp_path, sd15_originals, **options)
    sd15_originals[0].save_pretrained(tmp_path / "unet", **beside)
    (tmp_path / "unet" / "openvino_model.bin").write_bytes(b"OpenVINO")
    assert_same(open_parts(tmp_path), sd15_originals)


def test_a_folder_without_its_vocabulary_is_refused(tmp_path: Path, sd15_originals: tuple[nn.Module, ...]) -> None:
    written_folder(tmp_path, sd15_originals)
    for file in (tmp_path / "tokenizer").iterdir():
        file.unlink()
    with pytest.raises(MotionError, match="no vocabulary in its folder 'tokenizer'"):
        open_parts(tmp_path)


def written_folder(folder: Path, originals: tuple[nn.Module, ...], **options: Any) -> None:
    unet, vae, text = originals
    clip_tokenizer().save_pretrained(folder / "tokenizer")
    for name, part in (("unet", unet), ("vae", vae), ("text_encoder", text)):
        part.save_pretrained(folder / name, **options)
    DDIMScheduler().save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": StableDiffusionPipeline.__name__}))


def renamed(state: dict[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    return {key.replace(old, new): tensor for key, tensor in state.items()}


def without(state: dict[str, Tensor], *beginnings: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in state.items() if not key.startswith(beginnings)}


def with_conv_in(state: dict[str, Tensor], channels: int) -> dict[str, Tensor]:
    return {**state, f"{UNET}input_blocks.0.0.weight": torch.zeros(32, channels, 3, 3)}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: renamed(s, "cond_stage_model.transformer.", "cond_stage_model.model."), "Stable Diffusion 2"),
        (lambda s: renamed(s, "cond_stage_model.", "conditioner.embedders.0.model."), "SDXL refiner"),
        (lambda s: renamed(s, "cond_stage_model.transformer.", "cond_stage_model.roberta."), "AltDiffusion"),
        (lambda s: {**s, "edm_mean": torch.zeros(1)}, "EDM model"),
        (lambda s: {**s, "edm_vpred.sigma_max": torch.zeros(1), "v_pred": torch.zeros(0)}, "EDM model"),
        (lambda s: {**s, f"{UNET}time_embed.cond_proj.weight": torch.zeros(1)}, "told the guidance"),
        (lambda s: {**s, f"{UNET}out.2.weight.quant_map": torch.zeros(16)}, "NF4"),
        (lambda s: {k: v[:, :, 0, 0] if k.endswith(("proj_in.weight",)) else v for k, v in s.items()}, "Diffusion 2"),
        (lambda s: with_conv_in(s, 8), "instruct-pix2pix"),
        (lambda s: with_conv_in(s, 6), "6 latent channels"),
        (lambda s: without(s, "first_stage_model."), "no VAE"),
        (lambda s: without(s, "first_stage_model.encoder."), "VAE of another layout"),
        (lambda s: {**s, "first_stage_model.decoder.conv_in.weight": torch.zeros(64, 16, 3, 3)}, "16 latent channels"),
        (lambda s: without(s, "cond_stage_model."), "lacks a text encoder"),
        (lambda s: renamed(renamed(s, UNET, "model_ema.d"), "cond_stage_model.", "conditioner."), "moving average"),
        (lambda s: without(s, f"{UNET}out.2.bias"), "lacks 'conv_out.bias' of its UNet"),
        (lambda s: without(s, f"{UNET}input_blocks.0.0"), "lacks"),
        (lambda s: without(s, f"{UNET}middle_block.1."), "SSD-1B"),
        (lambda s: {k.removeprefix(UNET): v for k, v in s.items() if k.startswith(UNET)}, "UNet alone, and no image"),
        (
            lambda s: {**s, "model.diffusion_model.out.0.weight": torch.zeros(7)},
            r"has \[7\] for 'conv_norm_out.weight' of its UNet where \[32\] belongs",
        ),
        (lambda s: {"some.lora_down.weight": torch.zeros(4, 4), "some.lora_up.weight": torch.zeros(4, 4)}, "LoRA"),
    ],
)
def test_other_models_are_refused_by_name(state: Any, change: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(MotionError, match=sentence) as raised:
        open_parts(saved(change(state), tmp_path))
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("index", "sentence"),
    [
        (None, "without model_index.json"),
        ({"_class_name": "FluxPipeline"}, "FluxPipeline"),
        ({"_class_name": "StableDiffusionPipeline"}, "no weights in its folder 'unet'"),
        ("[", "damaged model_index.json"),
        ("[]", "holds a None"),
    ],
)
def test_other_folders_are_refused_by_name(index: Any, sentence: str, tmp_path: Path) -> None:
    if index is not None:
        (tmp_path / "model_index.json").write_text(index if isinstance(index, str) else json.dumps(index))
    with pytest.raises(MotionError, match=sentence):
        open_parts(tmp_path)


def test_a_folder_beside_the_right_one_leads_there(tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshots" / "0123"
    (snapshot / "unet").mkdir(parents=True)
    (snapshot / "model_index.json").write_text("{}")
    (tmp_path / "model.safetensors").touch()
    for folder, better in ((tmp_path, snapshot), (snapshot / "unet", snapshot)):
        with pytest.raises(MotionError, match=f"{better}$"):
            open_parts(folder)
    with pytest.raises(MotionError, match="holds a None"):
        open_parts(snapshot)
    (snapshot / "model_index.json").unlink()
    with pytest.raises(MotionError, match=r"such as .*model\.safetensors$"):
        open_parts(tmp_path)


def test_devices_and_dtypes_that_are_not_there_are_refused(tiny: Path) -> None:
    for options in ({"device": "tpu"}, {"device": "cpu:3"}, {"device": "cuda:99"}, {"dtype": "int8"}):
        with pytest.raises(MotionError, match=f"{next(iter(options.values()))}: (choose|this machine)"):
            Standalone.open(tiny / "sd15.safetensors", **options)
    with pytest.raises(MotionError, match="does not exist"):
        Standalone.open(tiny / "nothing.safetensors")
