"""Which WebUI this process is: the only module that knows all of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from importlib.util import find_spec

import torch
from torch import Tensor

from motion.hosts.webui.backends.a1111 import A1111
from motion.hosts.webui.backends.base import Host, host_module, need
from motion.hosts.webui.backends.forge import Forge
from motion.hosts.webui.backends.mean import encoding_to_the_mean
from motion.techniques.technique import Pictures

NEEDED = (
    *("rng.ImageRNG", "sd_models.model_data", "sd_samplers.create_sampler", "sd_samplers_common.InterruptedException"),
    *("shared.opts", "shared.state"),
    "processing.StableDiffusionProcessing.get_conds_with_caching",
    "processing.StableDiffusionProcessing.parse_extra_network_prompts",
)
"""What every clip uses of a host whatever it is, without its package's name. What only some clips use is asked for
there."""
WHOLE_VAE = 0
"""The hosts' number for the VAE itself."""


@lru_cache(maxsize=1)
def host() -> Host:
    """The host that this process is, told by what is there.

    Raises MotionError naming what a host must have and this one has not.
    """
    need(*NEEDED)
    return A1111() if find_spec("modules_forge") is None else Forge()


def encode(pixels: Tensor, method: int = WHOLE_VAE) -> Tensor:
    """Pictures ``[n, 3, H, W]`` from 0 to 1 as latents, scaled: the mean of what the loaded VAE gives, so the same each
    time. ``method`` is one of the host's numbers for its VAE and its approximations of it."""
    need("sd_samplers_common.images_tensor_to_samples")
    shared, devices = host_module("shared"), host_module("devices")
    pixels = pixels.to(shared.device, devices.dtype_vae)
    with encoding_to_the_mean(host().vae()):
        latents: Tensor = host_module("sd_samplers_common").images_tensor_to_samples(pixels, method, shared.sd_model)
    return latents


def decode(latents: Tensor) -> Tensor:
    """The inverse of `encode`, by the loaded VAE."""
    need("sd_samplers_common.samples_to_images_tensor")
    model = host_module("shared").sd_model
    shown: Tensor = host_module("sd_samplers_common").samples_to_images_tensor(latents, WHOLE_VAE, model)
    return (shown / 2 + 0.5).clamp(0, 1)


def pictures_within_a_pass() -> Pictures:
    """`decode` and `encode`, a frame at a time, since a UNet is in memory too; it is back on its device afterwards."""

    def one_by_one(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        found = torch.cat([function(one).float() for one in x.split(1)])  # type: ignore[no-untyped-call]
        host().load_unet()
        return found.to(x.device)

    return Pictures(partial(one_by_one, decode), partial(one_by_one, encode))
