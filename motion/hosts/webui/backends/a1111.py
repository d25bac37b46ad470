"""AUTOMATIC1111 1.10: where its UNet and its noise schedule are, and how it lays out a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from motion import patching
from motion.hosts.memory import free_bytes
from motion.hosts.webui.backends.a1111_guidance import guide
from motion.hosts.webui.backends.base import host_module, put_alphas
from motion.hosts.webui.guidance import Guidance
from motion.sampling.arrangement import Arrangement


class A1111:
    """The host as it is; see `motion.hosts.webui.backends.base.Host`."""

    any_width = True

    def unet(self) -> nn.Module:
        unet: nn.Module = host_module("shared").sd_model.model.diffusion_model
        return unet

    def put_schedule(self, alphas: Tensor, undo: ExitStack) -> None:
        model = host_module("shared").sd_model
        for name in ("alphas_cumprod", "alphas_cumprod_original"):  # each batch begins with a copy of the second
            put_alphas(model, alphas, undo, name)

    def before_pass(
        self, p: Any, conditioning: Any, arrangement: Arrangement, beside: Sequence[Tensor], undo: ExitStack
    ) -> None:
        """The prompts of a frame lie side by side; memory is the host's own affair."""
        arrangement.prompts = len(conditioning.batch[0])
        if arrangement.prompts > 1:  # else the host may cut the batch in the middle of a clip
            options = host_module("shared").opts.data
            for name in ("batch_cond_uncond", "pad_cond_uncond"):
                undo.callback(patching.item(options, name, True))

    def guide(self, p: Any, guidance: Guidance, undo: ExitStack) -> Callable[[], None]:
        """The sampler's denoiser is the same with any model."""
        guide(p.sampler.model_wrap_cfg, guidance, undo)
        return lambda: None

    def vae(self) -> nn.Module:
        net: nn.Module = host_module("shared").sd_model.first_stage_model
        return net

    def load_unet(self) -> None:
        """It is there, or comes when it is called (`--lowvram`, `--medvram`)."""

    def free_memory(self) -> float | None:
        """Its GPU's; of the machine it asks nobody."""
        return free_bytes(torch.device(host_module("shared").device))

    def memory(self, images: int, width: int, height: int) -> float | None:
        """It estimates nothing."""
        return None
