"""Opening an image model: a single file under the original names, or a diffusers folder; nothing is downloaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from motion.errors import MotionError
from motion.hosts.standalone import shapes
from motion.hosts.standalone.parts import Base, Parts, TextEncoder
from motion.hosts.standalone.tokens import clip_tokenizer
from motion.weights import checkpoint as weights
from motion.weights.kinds import detect

UNET, VAE = "model.diffusion_model.", "first_stage_model."
CLIP_L = {"sd15": "cond_stage_model.transformer.", "sdxl": "conditioner.embedders.0.transformer."}
OPEN_CLIP = "conditioner.embedders.1.model."

REFUSED = {
    "cond_stage_model.model.": "a Stable Diffusion 2 model (v-prediction, OpenCLIP)",
    "conditioner.embedders.0.model.": "an SDXL refiner or a Stable Diffusion 2 model",
    "v_pred": "a v-prediction model",
    "model.diffusion_model.joint_blocks.": "a Stable Diffusion 3 model",
    "model.diffusion_model.double_blocks.": "a Flux model",
}
"""Image models that no motion module was made for, by the beginning of a key only they have."""

CHANNELS = {5: "a depth model", 7: "an upscaling model", 8: "an instruct-pix2pix model", 9: "an inpainting model"}
REMEDY = "give an SD1.5 or SDXL text-to-image checkpoint"


def open_parts(path: Path) -> Parts:
    """The parts of the checkpoint or diffusers folder at `path`. Raises MotionError naming what it is instead."""
    try:
        return _open_folder(path) if path.is_dir() else _open_file(path)
    except MotionError:
        raise
    except KeyError as error:
        raise MotionError(f"{path} lacks {error}, so it is not a whole checkpoint: {REMEDY}") from error
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise MotionError(f"{path} cannot be made a Stable Diffusion model ({reason:.200}): {REMEDY}") from error


def _open_file(path: Path) -> Parts:
    # Like the WebUI, sampling takes the plain weights where a file carries their moving average too.
    state = {key: tensor for key, tensor in weights.read(path).items() if not key.startswith("model_ema.")}
    for beginning, title in REFUSED.items():
        if any(key.startswith(beginning) for key in state):
            raise MotionError(f"{path} is {title}: {REMEDY}")
    if not any(key.startswith(UNET) for key in state):
        raise MotionError(f"{path} is no image model but: {detect(state).name}; {REMEDY}")
    if not any(key.startswith(VAE) for key in state):
        raise MotionError(f"{path} has no VAE (first_stage_model): give a checkpoint with the VAE baked in")
    base: Base = "sdxl" if any(key.startswith(OPEN_CLIP) for key in state) else "sd15"
    _check_channels(path, state[UNET + "input_blocks.0.0.weight"].shape[1])
    encoders = (_clip(state, base), *([_open_clip(state)] if base == "sdxl" else []))
    return Parts(base, _unet(state, base), _vae(state, base), encoders)


def _check_channels(path: Path, channels: int) -> None:
    if channels != 4:
        title = CHANNELS.get(channels, f"a model of {channels} latent channels")
        raise MotionError(f"{path} is {title}: {REMEDY}")


def _unet(state: Mapping[str, Tensor], base: Base) -> UNet2DConditionModel:
    unet = _under(state, UNET)
    config = shapes.unet_config(unet, sdxl=base == "sdxl")
    if base == "sdxl":
        label = unet["label_emb.0.0.weight"].shape[1]
        config |= shapes.added_condition_config(label, state[OPEN_CLIP + "text_projection"].shape[1])
    return _filled(
        lambda: UNet2DConditionModel(**config), lambda model: convert_ldm_unet_checkpoint(state, model.config)
    )


def _vae(state: Mapping[str, Tensor], base: Base) -> AutoencoderKL:
    config = shapes.vae_config(_under(state, VAE), sdxl=base == "sdxl")
    return _filled(lambda: AutoencoderKL(**config), lambda made: convert_ldm_vae_checkpoint(state, made.config))


def _clip(state: Mapping[str, Tensor], base: Base) -> TextEncoder:
    # The first SD1.x files were saved before transformers put `text_model.` in front.
    text = {f"text_model.{k.removeprefix('text_model.')}": v for k, v in _under(state, CLIP_L[base]).items()}
    config = CLIPTextConfig(**shapes.clip_config(text))
    model = _filled(lambda: CLIPTextModel(config), lambda model: _text_names(model, text))
    return TextEncoder(clip_tokenizer(), model, pad=config.eos_token_id)


def _open_clip(state: Mapping[str, Tensor]) -> TextEncoder:
    text = _under(state, OPEN_CLIP)
    config = CLIPTextConfig(**shapes.open_clip_config(text))
    model = _filled(
        lambda: CLIPTextModelWithProjection(config),
        lambda model: _text_names(model, convert_open_clip_checkpoint(model, text, prefix="")),
    )
    return TextEncoder(clip_tokenizer(), model, pad=0)


def _text_names(model: nn.Module, text: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """transformers 5.6 dropped the level `text_model.` of `CLIPTextModel`."""
    return text if hasattr(model, "text_model") else {k.removeprefix("text_model."): v for k, v in text.items()}


def _filled(build: Callable[[], Any], convert: Callable[[Any], Mapping[str, Tensor]]) -> Any:
    """The model of `build` holding the tensors of `convert`; extra ones are ignored, as hosts do.

    Raises KeyError naming a missing tensor, RuntimeError for one of another shape.
    """
    with init_empty_weights():
        model = build()
    # Copied, because a mapped file that is replaced under a running model takes the process with it.
    tensors = {name: tensor.clone() for name, tensor in convert(model).items()}
    missing = model.load_state_dict(tensors, strict=False, assign=True).missing_keys
    if missing:
        raise KeyError(f"{type(model).__name__} {missing[0]}")
    return model.eval().requires_grad_(False)


def _under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


PIPELINES: dict[str, Base] = {"StableDiffusionPipeline": "sd15", "StableDiffusionXLPipeline": "sdxl"}


def _open_folder(path: Path) -> Parts:
    index = path / "model_index.json"
    if not index.is_file():
        raise MotionError(f"{path} is a folder without model_index.json: give a diffusers folder or a checkpoint file")
    name = _json(index).get("_class_name")
    if name not in PIPELINES:
        raise MotionError(f"{path} holds a {name}: {REMEDY}")
    base = PIPELINES[name]
    scheduler = path / "scheduler" / "scheduler_config.json"
    prediction = (
        json.loads(scheduler.read_text(encoding="utf-8")).get("prediction_type") if scheduler.is_file() else None
    )
    if prediction not in (None, "epsilon"):
        raise MotionError(f"{path} is a {prediction} model: {REMEDY}")
    with _no_progress_bars():
        unet = _component(UNet2DConditionModel, path, "unet")
        _check_channels(path, unet.config.in_channels)
        encoders = [_folder_encoder(CLIPTextModel, path, "")]
        if base == "sdxl":
            encoders.append(_folder_encoder(CLIPTextModelWithProjection, path, "_2"))
        return Parts(base, unet, _component(AutoencoderKL, path, "vae"), tuple(encoders))


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _folder_encoder(kind: Any, path: Path, suffix: str) -> TextEncoder:
    tokenizer = CLIPTokenizer.from_pretrained(path, subfolder=f"tokenizer{suffix}", local_files_only=True)
    return TextEncoder(tokenizer, _component(kind, path, f"text_encoder{suffix}"), tokenizer.pad_token_id)


def _component(kind: Any, path: Path, subfolder: str) -> Any:
    files = [file.name for file in (path / subfolder).glob("*model*.*") if file.suffix in (".safetensors", ".bin")]
    variant = "fp16" if files and all(".fp16." in name for name in files) else None
    model = kind.from_pretrained(path, subfolder=subfolder, variant=variant, local_files_only=True)
    return model.eval().requires_grad_(False)


@contextmanager
def _no_progress_bars() -> Any:
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
