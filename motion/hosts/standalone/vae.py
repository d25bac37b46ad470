"""The autoencoder of a file, its own or a checkpoint's; what overflows in it in half precision is computed again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from torch import Tensor, nn

from motion.errors import MotionError
from motion.hosts.standalone.formats import shapes
from motion.hosts.standalone.parts import LATENT_CHANNELS, State, filled, under
from motion.hosts.standalone.placement import at_work
from motion.techniques.technique import Pictures
from motion.video.pictures import Frame
from motion.weights import checkpoint as weights
from motion.weights.formats import ldm
from motion.weights.kinds import detect, title

_log = logging.getLogger(__name__)

VAE = "first_stage_model."
AT_ONCE = 4 * 512 * 512
"""Pixels that go through a VAE together, but always a whole frame."""
REMEDY = "give a VAE for SD1.5 or SDXL, or a checkpoint that has one"


def vae_state(path: Path) -> State:
    """The tensors of the VAE in the file at `path`, its own or a checkpoint's, under LDM's names for checkpoints.

    Raises MotionError naming what the file is instead.
    """
    state = weights.read(path)
    if not any(key.startswith(VAE) for key in state):
        kind = detect(state)
        if kind.name != "VAE":
            raise MotionError(f"{path} is {title(kind)}, and no VAE: {REMEDY}")
        state = dict(ldm.to_ldm({}, state, {}) if kind.layout == "diffusers" else _named_as_inside(state))
    try:
        check_vae(state)
    except MotionError as error:
        raise MotionError(f"{path} {error}") from error
    return {key: tensor for key, tensor in state.items() if key.startswith(VAE)}


def _named_as_inside(state: State) -> State:
    return {VAE + key: tensor for key, tensor in state.items()}


def check_vae(state: State) -> None:
    """Raise MotionError, as the end of a sentence, unless `state` has a VAE of SD1.5's and SDXL's kind."""
    if not any(key.startswith(VAE) for key in state):
        raise MotionError("has no VAE: give one as well (--vae), or a checkpoint that has its own")
    widths = [state[key].shape[1] for side in ("encoder", "decoder") if (key := f"{VAE}{side}.conv_in.weight") in state]
    if widths != [3, LATENT_CHANNELS]:
        found = f"of {widths[-1]} latent channels" if len(widths) == 2 else "of another layout (such as TAESD)"
        raise MotionError(f"has a VAE {found}: {REMEDY}")


def build_vae(state: State, sdxl: bool) -> AutoencoderKL:
    """The autoencoder of a checkpoint under LDM's names, checked by `check_vae`.

    Raises MotionError, as the end of a sentence, for one that is not whole.
    """
    config = shapes.vae_config(under(state, VAE), sdxl)
    return filled(
        "VAE", lambda: AutoencoderKL(**config), lambda made: convert_ldm_vae_checkpoint(dict(state), made.config)
    )


def decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """The pictures of `latents [n, 4, h, w]`, float32 `[n, 3, 8 h, 8 w]` from -1 to 1. Raises MotionError for NaN."""
    return _computed(vae, latents / vae.config.scaling_factor, lambda given: vae.decode(given, return_dict=False)[0])


def encode(vae: AutoencoderKL, pixels: Tensor) -> Tensor:
    """The means of the latents of pictures `[n, 3, H, W]` from 0 to 1, float32. Raises MotionError for NaN."""
    return _computed(vae, 2 * pixels - 1, lambda given: vae.encode(given).latent_dist.mean) * vae.config.scaling_factor


def frames_at_once(width: int, height: int) -> int:
    """How many frames of that size go through a VAE together."""
    return max(1, AT_ONCE // (width * height))


def encode_frames(vae: AutoencoderKL, frames: Iterable[Frame]) -> Iterator[Tensor]:
    """The latents of frames, uint8 `[height, width, 3]`, a few at a time: float32 `[some, 4, h, w]` on the CPU."""
    frames = iter(frames)
    for first in frames:
        some = np.stack([first, *islice(frames, frames_at_once(*first.shape[1::-1]) - 1)])
        yield encode(vae, torch.from_numpy(some).movedim(-1, 1) / 255).cpu()


def _computed(vae: AutoencoderKL, given: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """What the VAE makes of `given`. Where its activations are beyond float16's 65504 it goes on in float32."""
    with at_work(vae):
        result = compute(given.to(vae.device, vae.dtype)).float()
    if result.isfinite().all():
        return result
    if vae.dtype == torch.float16:
        _log.warning("the VAE overflows in fp16: it goes on in fp32")
        nn.Module.to(vae, dtype=torch.float32)  # diffusers' own `to` logs a warning at every cast
        return _computed(vae, given, compute)
    raise MotionError(f"the VAE made no numbers of this in {str(vae.dtype).removeprefix('torch.')}: {REMEDY}")


def pictures_of(vae: Any) -> Pictures:
    """Decodes and encodes a frame at a time, as a UNet is in memory too; what comes is on the CPU."""

    def pictures(latents: Tensor) -> Tensor:
        shown = [decode(vae, one).cpu() for one in latents.split(1)]  # type: ignore[no-untyped-call]
        return (torch.cat(shown) / 2 + 0.5).clamp(0, 1)

    def latents_of(shown: Tensor) -> Tensor:
        return torch.cat([encode(vae, one).cpu() for one in shown.split(1)])  # type: ignore[no-untyped-call]

    return Pictures(pictures, latents_of)
