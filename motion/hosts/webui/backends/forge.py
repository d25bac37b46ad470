"""Forge and its relatives (reForge, Classic, Neo, ersatz): where the UNet and the noise schedule are, and their memory
manager.

All send a batch's prompts and negative prompts to the UNet as whole groups of frames (`cond_or_uncond`), however many
prompts AND joins, so there is nothing to arrange. They differ in the name of the object that holds the noise levels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from motion import patching
from motion.errors import MotionError
from motion.hosts.webui.backends.base import KNOWN, host_module, put_alphas, put_levels
from motion.hosts.webui.backends.forge_control import deferring
from motion.hosts.webui.backends.forge_guidance import guide
from motion.hosts.webui.guidance import Guidance
from motion.sampling.arrangement import Arrangement

NOISE_LEVELS = ("predictor", "model_sampling")
"""Attributes of the model around the UNet that hold its noise levels: backend's, ldm_patched's."""
MEMORY_MANAGERS = ("backend", "backend.memory_management"), ("ldm_patched", "ldm_patched.modules.model_management")
"""The family's packages, and where in them the memory manager is."""
COMPUTES_IN = ("computation_dtype", "manual_cast_dtype")
"""Attributes of the model around the UNet that say what it computes in, where that is not what its weights are in:
backend's, ldm_patched's."""


class Forge:
    """The family as it is; see `motion.hosts.webui.backends.base.Host`."""

    any_width = False

    def unet(self) -> nn.Module:
        unet: nn.Module = _patcher().model.diffusion_model
        return unet

    def vae(self) -> nn.Module:
        net: nn.Module = host_module("shared").sd_model.forge_objects.vae.first_stage_model
        return net

    def load_unet(self) -> None:
        _memory_manager().load_model_gpu(_patcher())

    def free_memory(self) -> float | None:
        """Of its GPU, or on the CPU of the machine: the memory manager knows."""
        return float(_memory_manager().get_free_memory())

    def put_schedule(self, alphas: Tensor, undo: ExitStack) -> None:
        model, around_unet = host_module("shared").sd_model, _patcher().model
        levels = next((getattr(around_unet, name) for name in NOISE_LEVELS if hasattr(around_unet, name)), None)
        if levels is None:
            raise MotionError(f"Motion cannot find this WebUI's noise schedule: update the extension, or use {KNOWN}")
        sigmas = ((1 - alphas) / alphas).sqrt()
        for name, values in {"sigmas": sigmas, "log_sigmas": sigmas.log()}.items():
            put_levels(levels._buffers, name, values, undo)
        put_alphas(model, alphas, undo)  # most of reForge's samplers ask the model

    def before_pass(
        self, p: Any, conditioning: Any, arrangement: Arrangement, beside: Sequence[Tensor], undo: ExitStack
    ) -> None:
        """Let the memory manager keep room for the weights beside the UNet's, which follow the data to its device and
        dtype, and for as many frames as are computed together; let ControlNets take a window's frames at a time, and
        stand aside where the UNet does.

        The weights are not handed over as a model to be loaded: where memory is short it splits models into layers of
        the host's own kinds, and ours are plain ones. The clone is dropped by the host before the next pass.
        """
        objects = p.sd_model.forge_objects
        objects.unet = unet = objects.unet.clone()
        size = _computes_in(unet.model).itemsize
        unet.add_extra_preserved_memory_during_sampling(sum(weights.numel() * size for weights in beside))
        estimate = getattr(unet.model, "memory_required", None)
        if estimate is not None:
            scaled = _of_frames_together(estimate, arrangement)
            undo.callback(patching.item(vars(unet.model), "memory_required", scaled))
        if arrangement.cached or (arrangement.windows.cut and not arrangement.whole):
            unet.add_conditioning_modifier(deferring(arrangement, undo))

    def guide(self, p: Any, guidance: Guidance, undo: ExitStack) -> Callable[[], None]:
        """By the patcher of the model, whose clone the host drops before the next pass."""

        def put() -> None:
            objects = host_module("shared").sd_model.forge_objects
            objects.unet = objects.unet.clone()
            guide(objects.unet, guidance)

        put()
        return put

    def memory(self, images: int, width: int, height: int) -> float | None:
        objects = getattr(host_module("sd_models").model_data.sd_model, "forge_objects", None)
        estimate = getattr(objects and objects.unet, "memory_required", None)
        return None if estimate is None else float(estimate([images, 4, height // 8, width // 8]))


def _memory_manager() -> Any:
    return import_module(next(name for package, name in MEMORY_MANAGERS if find_spec(package) is not None))


def _patcher() -> Any:
    return host_module("shared").sd_model.forge_objects.unet


def _computes_in(model: Any) -> torch.dtype:
    """The dtype in which the model around the UNet computes, and the copies of what is hooked into it with it."""
    named = (getattr(model, name, None) for name in COMPUTES_IN)
    found = next((dtype for dtype in named if dtype is not None), None)
    return found or next((weights.dtype for weights in model.diffusion_model.parameters()), torch.float32)


def _of_frames_together(estimate: Callable[..., Any], arrangement: Arrangement) -> Callable[..., Any]:
    """The host's estimate of the memory that a call of the UNet takes, for the frames that are computed together of
    each clip in it. Asked for less than a clip (ersatz: for one picture), it is of one."""
    windows = arrangement.windows
    together = windows.size if windows.cut and not arrangement.whole else windows.frames

    def of_call(input_shape: Sequence[int], *args: Any, **kwargs: Any) -> Any:
        clips = max(1, input_shape[0] // windows.frames)
        return estimate([clips * together, *input_shape[1:]], *args, **kwargs)

    return of_call
