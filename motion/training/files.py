"""Reading and writing what training works on: whole checkpoints and motion modules, as every host knows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

import torch
from accelerate import PartialState
from torch import Tensor

from motion.hosts.standalone.checkpoint import open_parts
from motion.models.motion.model import MotionModel
from motion.training.image import ImageModel
from motion.weights.checkpoint import FAMILY_HINT
from motion.weights.files import save_whole
from motion.weights.formats.ldm import to_ldm

LDM_CONFIG = Path(__file__).parent / "ldm.yaml"
TEXT_FOLDER = "${oc.env:SD_WEBUI_MOTION,extensions/sd-webui-motion}/motion/hosts/data/clip"
"""The tokenizer and the width of the sprites' text encoder, seen from the folder that AUTOMATIC1111 is started in.

The path lives on in copies of the ``.yaml`` in people's model folders, so it can be moved from outside: OmegaConf puts
in the environment variable ``SD_WEBUI_MOTION``, where it is set, for the place that a clone usually has.
"""


def open_image_model(path: Path) -> ImageModel:
    """A checkpoint ready to be trained: float32, frozen."""
    parts = open_parts(path)
    return ImageModel(parts.unet, parts.vae, parts.encoders[0].model).float().eval().requires_grad_(False)


def save_image_model(model: ImageModel, path: Path, metadata: Mapping[str, str]) -> Path:
    """Write a single-file checkpoint (LDM names, fp16), and beside it the ``.yaml`` that AUTOMATIC1111 opens it by."""
    state = to_ldm(model.unet.state_dict(), model.vae.state_dict(), model.text.state_dict())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".yaml").write_text(_ldm_config(model))  # the same in every process
    return save_tensors(state, path, metadata)


def save_motion_model(motion: MotionModel, path: Path, metadata: Mapping[str, str]) -> Path:
    """Write a motion module under the authors' names, fp16."""
    hint = {FAMILY_HINT: motion.architecture.family.name}
    return save_tensors(motion.state_dict(), path, {**hint, **metadata})


def save_tensors(state: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> Path:
    """Write fp16 safetensors, whole or not at all; of several processes the first does, and the others wait for it."""
    team = PartialState()
    if team.is_main_process:
        halves = {name: tensor.detach().to("cpu", torch.float16) for name, tensor in state.items()}
        save_whole(halves, path, {"format": "pt", **metadata})
    team.wait_for_everyone()
    return path


def _ldm_config(model: ImageModel) -> str:
    """The configuration that the LDM code base needs to build a model of these widths."""
    unet, vae = model.unet.config, model.vae.config
    return Template(LDM_CONFIG.read_text(encoding="utf-8")).substitute(
        scale_factor=vae.scaling_factor,
        unet_channels=unet.block_out_channels[0],
        unet_mult=_multiples(unet.block_out_channels),
        unet_layers=unet.layers_per_block,
        text_width=unet.cross_attention_dim,
        vae_channels=vae.block_out_channels[0],
        vae_mult=_multiples(vae.block_out_channels),
        vae_layers=vae.layers_per_block,
        text_folder=TEXT_FOLDER,
    )


def _multiples(widths: Sequence[int]) -> list[int]:
    return [width // widths[0] for width in widths]
