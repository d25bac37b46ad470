"""An image model in one file, under the original names of CompVis (SD1.5) and Stability AI (SDXL)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml
from accelerate import init_empty_weights
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_open_clip_checkpoint
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from motion.errors import MotionError
from motion.hosts.standalone.formats import shapes
from motion.hosts.standalone.formats.refusals import REMEDY, check_unet, refusal
from motion.hosts.standalone.parts import Base, Parameterization, Parts, State, TextEncoder, filled, under
from motion.hosts.standalone.text.tokens import clip_tokenizer
from motion.hosts.standalone.vae import build_vae, check_vae
from motion.weights.files import WeightsFile
from motion.weights.formats import ldm
from motion.weights.kinds import detect, title

UNET, AVERAGE = "model.diffusion_model.", "model_ema."
CLIP_L = {"sd15": "cond_stage_model.transformer.", "sdxl": "conditioner.embedders.0.transformer."}
OPEN_CLIP = "conditioner.embedders.1.model."


def open_file(file: WeightsFile, config: Path, vae: State | None) -> Parts:
    """The parts in a checkpoint, with the autoencoder `vae` if there is one; at `config` its `.yaml` may lie.

    Like the WebUI, it takes the plain weights where a file carries their moving average too. Raises MotionError, as
    the end of a sentence, naming what the file is instead or lacks.
    """
    state = _whole(file.tensors)
    check_vae(state if vae is None else vae)
    base: Base = "sdxl" if any(key.startswith(OPEN_CLIP) for key in state) else "sd15"
    encoders = (_clip(state, base), *([_open_clip(state)] if base == "sdxl" else []))
    parameterization = _parameterization(state, file.metadata, config)
    return Parts(base, _unet(state, base), build_vae(vae or state, base == "sdxl"), encoders, parameterization)


def _whole(tensors: State) -> State:
    """The tensors of a file that is a whole SD1.5 or SDXL text-to-image model, apart perhaps from its VAE."""
    if reason := refusal(tensors):
        raise MotionError(f"is {reason}: {REMEDY}")
    state = {key: tensor for key, tensor in tensors.items() if not key.startswith(AVERAGE)}
    sdxl = any(key.startswith("conditioner.") for key in state)
    if not any(key.startswith(UNET) for key in state):
        if not any(key.startswith(AVERAGE) for key in tensors):
            raise MotionError(f"is {title(detect(tensors))}, and no image model: {REMEDY}")
        if sdxl:
            raise MotionError(f"has of its UNet but a moving average (EMA), which is read of SD1.5 alone: {REMEDY}")
        state |= _from_average(tensors)
    for beginning in [CLIP_L["sdxl"], OPEN_CLIP] if sdxl else [CLIP_L["sd15"]]:
        if not any(key.startswith(beginning) for key in state):
            raise MotionError(f"lacks a text encoder ({beginning}*), so it is not a whole checkpoint: {REMEDY}")
    return state


def _from_average(tensors: State) -> dict[str, Tensor]:
    """The UNet of a file that holds nothing but its moving average, in whose names the dots are left out."""
    with init_empty_weights():  # SD1.5's names, which are the same at any width that grows
        unet = UNet2DConditionModel(block_out_channels=(32, 64, 96, 128), cross_attention_dim=8)
    names = [UNET + ldm.unet_name(name) for name in unet.state_dict()]
    flat = {AVERAGE + name.removeprefix("model.").replace(".", ""): name for name in names}
    return {flat[key]: tensor for key, tensor in tensors.items() if key in flat}


def _parameterization(state: State, metadata: Mapping[str, str], config: Path) -> Parameterization:
    """What the file, its metadata (https://github.com/Stability-AI/ModelSpec) or the WebUI's `.yaml` beside it say."""
    velocity = "v_pred" in state or metadata.get("modelspec.prediction_type", "").startswith("v")
    if velocity or _velocity_by(config):
        return Parameterization("v_prediction", zero_snr="ztsnr" in state)
    return Parameterization()


def _velocity_by(config: Path) -> bool:
    """Whether the WebUI's configuration of a checkpoint asks for v-prediction: LDM's word for it, or sgm's class."""
    if not config.is_file():
        return False
    try:
        model = (yaml.safe_load(config.read_text(encoding="utf-8")) or {})["model"]["params"]
        denoiser = model.get("denoiser_config", {}).get("params", {}).get("scaling_config", {}).get("target", "")
        return model.get("parameterization") == "v" or "VScaling" in denoiser
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise MotionError(f"has a file {config.name} beside it that is no configuration: mend or remove it") from error


def _unet(state: State, base: Base) -> UNet2DConditionModel:
    unet = under(state, UNET)
    if "middle_block.1.proj_in.weight" not in unet:
        raise MotionError(f"has no attention in the middle of its UNet, such as SSD-1B: {REMEDY}")
    config = shapes.unet_config(unet, sdxl=base == "sdxl")
    check_unet(config, base)
    if base == "sdxl":
        label = unet["label_emb.0.0.weight"].shape[1]
        config |= shapes.added_condition_config(label, state[OPEN_CLIP + "text_projection"].shape[1])
    return filled(
        "UNet",
        lambda: UNet2DConditionModel(**config),
        lambda model: convert_ldm_unet_checkpoint(dict(state), model.config),
    )


def _clip(state: State, base: Base) -> TextEncoder:
    # The first SD1.x files were saved before transformers put `text_model.` in front.
    text = {f"text_model.{k.removeprefix('text_model.')}": v for k, v in under(state, CLIP_L[base]).items()}
    config = CLIPTextConfig(**shapes.clip_config(text))
    model = filled("text encoder", lambda: CLIPTextModel(config), lambda model: _text_names(model, text))
    return TextEncoder(clip_tokenizer(), model, pad=config.eos_token_id)


def _open_clip(state: State) -> TextEncoder:
    text = under(state, OPEN_CLIP)
    config = CLIPTextConfig(**shapes.open_clip_config(text))
    model = filled(
        "second text encoder",
        lambda: CLIPTextModelWithProjection(config),
        lambda model: _text_names(model, convert_open_clip_checkpoint(model, text, prefix="")),
    )
    return TextEncoder(clip_tokenizer(), model, pad=0)


def _text_names(model: nn.Module, text: State) -> State:
    """transformers 5.6 dropped the level `text_model.` of `CLIPTextModel`."""
    return text if hasattr(model, "text_model") else {k.removeprefix("text_model."): v for k, v in text.items()}
