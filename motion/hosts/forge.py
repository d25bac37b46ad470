"""Forge and reForge: where the UNet and the noise schedule are, and their memory manager.

Both send a batch's prompts and negative prompts to the UNet as whole groups of frames (`cond_or_uncond`), however many
prompts AND joins, so there is nothing to arrange. They differ in the name of the object that holds the noise levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

from motion import patching
from motion.arrangement import Arrangement
from motion.hosts.base import host_module, put_alphas, put_levels

NOISE_LEVELS = ("predictor", "model_sampling")
"""Attributes of the model around the UNet that hold its noise levels: Forge's, reForge's."""


class Forge:
    """The family as it is; see `motion.hosts.base.Host`."""

    def unet(self) -> nn.Module:
        unet: nn.Module = _patcher().model.diffusion_model
        return unet

    def put_schedule(self, alphas: Tensor, undo: ExitStack) -> None:
        model, around_unet = host_module("shared").sd_model, _patcher().model
        levels = next(getattr(around_unet, name) for name in NOISE_LEVELS if hasattr(around_unet, name))
        sigmas = ((1 - alphas) / alphas).sqrt()
        for name, values in {"sigmas": sigmas, "log_sigmas": sigmas.log()}.items():
            put_levels(levels._buffers, name, values, undo)
        put_alphas(model, alphas, undo)  # most of reForge's samplers ask the model

    def before_pass(
        self, p: Any, conditioning: Any, arrangement: Arrangement, beside: Sequence[Tensor], undo: ExitStack
    ) -> None:
        """Let the memory manager keep room for the weights beside the UNet's, which follow the data to its device.

        They are not handed over as a model to be loaded: where memory is short it splits models into layers of the
        host's own kinds, and ours are plain ones. The clone is dropped by the host before the next pass.
        """
        objects = p.sd_model.forge_objects
        objects.unet = objects.unet.clone()
        objects.unet.add_extra_preserved_memory_during_sampling(sum(weights.nbytes for weights in beside))

    def encode(self, pixels: Tensor) -> Tensor:
        """Forge takes a random sample of what the VAE gives unless told otherwise; reForge takes the mean."""
        shared, devices = host_module("shared"), host_module("devices")
        model = shared.sd_model
        options = model.forge_objects.vae.patcher.model_options
        pixels = pixels.to(shared.device, devices.dtype_vae)
        with ExitStack() as undo:
            undo.callback(patching.item(options, "model_vae_regulation", lambda posterior: posterior.mode()))
            latents: Tensor = shared.sd_model.get_first_stage_encoding(
                shared.sd_model.encode_first_stage(2 * pixels - 1)
            )
        return latents


def _patcher() -> Any:
    return host_module("shared").sd_model.forge_objects.unet
