"""Image models that are not drawn with, and what each is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from motion.errors import MotionError
from motion.hosts.standalone.parts import INPAINTING_CHANNELS, LATENT_CHANNELS, Base, State

REMEDY = "give an SD1.5 or SDXL text-to-image checkpoint"

BEGINNINGS = {
    "cond_stage_model.model.": "a Stable Diffusion 2 model (OpenCLIP)",
    "conditioner.embedders.0.model.": "an SDXL refiner or a Stable Diffusion 2 model",
    "cond_stage_model.roberta.": "an AltDiffusion model (XLM-RoBERTa)",
    "edm_mean": "an EDM model (Playground 2.5)",
    "edm_vpred.": "an EDM model (CosXL)",
    "model.diffusion_model.time_embed.cond_proj.": "a distilled model whose UNet is told the guidance (LCM)",
    "model.diffusion_model.joint_blocks.": "a Stable Diffusion 3 model",
    "model.diffusion_model.double_blocks.": "a Flux model",
}
"""By the beginning of a key only they have."""

ENDINGS = {
    ".quant_map": "quantised (NF4 or FP4)",
}
"""Weights that are numbers only together with others, by the end of a key."""

CHANNELS = {5: "a depth model", 7: "an upscaling model", 8: "an instruct-pix2pix model"}
"""By the channels that their UNets take."""

SD2_TEXT = 1024
"""Channels of the text that Stable Diffusion 2 reads."""

SCHEDULERS = {"EDM": "an EDM model (Playground 2.5, CosXL)", "FlowMatch": "a flow matching model"}
"""By the beginning of the scheduler's name in a diffusers folder."""


def refusal(state: State) -> str | None:
    """What a checkpoint under LDM's names is, if it is refused."""
    for beginning, what in BEGINNINGS.items():
        if any(key.startswith(beginning) for key in state):
            return what
    return next((what for ending, what in ENDINGS.items() if any(key.endswith(ending) for key in state)), None)


def check_unet(config: Mapping[str, Any], base: Base) -> None:
    """Raise MotionError, as the end of a sentence, for a UNet (by diffusers' names) that is none of SD1.5's or SDXL's
    text-to-image or inpainting models."""
    channels = config["in_channels"]
    if channels not in (LATENT_CHANNELS, INPAINTING_CHANNELS):
        raise MotionError(f"is {CHANNELS.get(channels, f'a model of {channels} latent channels')}: {REMEDY}")
    if config.get("time_cond_proj_dim"):
        raise MotionError(f"is {BEGINNINGS['model.diffusion_model.time_embed.cond_proj.']}: {REMEDY}")
    if base == "sd15" and (config["cross_attention_dim"] == SD2_TEXT or config["use_linear_projection"]):
        raise MotionError(f"is {BEGINNINGS['cond_stage_model.model.']}: {REMEDY}")
