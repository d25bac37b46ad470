"""Opening an image model: a single file under the original names, or a diffusers folder; nothing is downloaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import nn

from motion.errors import MotionError
from motion.hosts.memory import is_out_of_memory
from motion.hosts.standalone.formats.folder import open_folder
from motion.hosts.standalone.formats.refusals import REMEDY
from motion.hosts.standalone.formats.single_file import open_file
from motion.hosts.standalone.parts import Parameterization, Parts
from motion.hosts.standalone.vae import vae_state
from motion.weights.files import open_weights

PREDICTIONS = {"epsilon": Parameterization(), "v": Parameterization("v_prediction")}
"""What a UNet may be said to predict where its file does not tell."""


def open_unet(path: Path, device: torch.device, dtype: torch.dtype) -> UNet2DConditionModel:
    """The UNet of a checkpoint or diffusers folder alone, there in that dtype. Raises MotionError as `open_parts`."""
    unet = open_parts(path).unet
    nn.Module.to(unet, device, dtype)  # diffusers' own `to` logs a warning
    return unet


def open_parts(path: Path, vae: Path | None = None, prediction: str = "auto") -> Parts:
    """The parts of the checkpoint or diffusers folder at `path`; `vae` is a file whose autoencoder is taken instead.

    `prediction` is one of `PREDICTIONS`, or `auto` for what the file says of itself. Raises MotionError naming what is
    wrong, or what the file is instead.
    """
    if prediction not in ("auto", *PREDICTIONS):
        raise MotionError(f"prediction is {prediction}: choose one of auto, {', '.join(PREDICTIONS)}")
    autoencoder = vae_state(vae) if vae is not None else None
    file = None if path.is_dir() else open_weights(path)
    try:
        if file is None:
            parts = open_folder(path, autoencoder)
        else:
            parts = open_file(file, path.with_suffix(".yaml"), autoencoder)
    except MotionError as error:
        raise MotionError(f"{path} {error}") from error
    except KeyError as error:
        raise MotionError(f"{path} lacks {error}, so it is not a whole checkpoint: {REMEDY}") from error
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).strip().partition("\n")[0]
        raise MotionError(f"{path} cannot be made a Stable Diffusion model ({reason:.200}): {REMEDY}") from error
    if prediction == "auto":
        return parts
    zero_snr = prediction == "v" and parts.parameterization.zero_snr
    return replace(parts, parameterization=replace(PREDICTIONS[prediction], zero_snr=zero_snr))
