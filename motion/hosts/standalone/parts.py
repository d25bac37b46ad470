"""The parts of an image model, and what is told of it beside its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from diffusers import AutoencoderKL, UNet2DConditionModel

Base = Literal["sd15", "sdxl"]


@dataclass(frozen=True)
class TextEncoder:
    """A text model with its tokenizer and the token that fills up its rows."""

    tokenizer: Any
    model: Any
    pad: int


@dataclass(frozen=True)
class Parameterization:
    """What a UNet predicts, the noise ("epsilon") or the velocity ("v_prediction": Salimans and Ho,
    https://arxiv.org/abs/2202.00512), and whether it was trained down to a signal of zero."""

    prediction: Literal["epsilon", "v_prediction"] = "epsilon"
    zero_snr: bool = False


@dataclass(frozen=True)
class Parts:
    """The parts of an image model, on the CPU, in the dtype of the file."""

    base: Base
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    encoders: tuple[TextEncoder, ...]
    parameterization: Parameterization = Parameterization()
