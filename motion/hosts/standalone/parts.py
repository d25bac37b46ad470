"""The parts of an image model, filled with the tensors of a file, and what is told of it beside its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

from motion.errors import MotionError

Base = Literal["sd15", "sdxl"]
State = Mapping[str, Tensor]
LATENT_CHANNELS, INPAINTING_CHANNELS = 4, 9
"""That UNets take: noise, or noise (4), a mask (1) and the latents of a masked picture (4)."""


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

    @property
    def inpaints(self) -> bool:
        """Whether the UNet sees a mask and a masked picture beside the noise."""
        return bool(self.unet.config.in_channels == INPAINTING_CHANNELS)


def filled(what: str, build: Callable[[], Any], convert: Callable[[Any], State]) -> Any:
    """The model of `build` holding the tensors of `convert`; extra ones are ignored, as hosts do.

    Raises MotionError, as the end of a sentence in which the model is the file's `what`, for a tensor that is missing
    or of another shape.
    """
    with init_empty_weights():
        model = build()
    tensors = convert(model)
    for name, expected in model.state_dict().items():
        if name not in tensors:
            raise MotionError(f"lacks {name!r} of its {what}, so it is not a whole checkpoint: download it again")
        if tensors[name].shape != expected.shape:
            found, belongs = list(tensors[name].shape), list(expected.shape)
            raise MotionError(
                f"has {found} for {name!r} of its {what} where {belongs} belongs, so it cannot be made a Stable "
                "Diffusion model: download it again"
            )
    # Copied, because a mapped file that is replaced under a running model takes the process with it.
    model.load_state_dict({name: tensor.clone() for name, tensor in tensors.items()}, strict=False, assign=True)
    return model.eval().requires_grad_(False)


def under(state: State, prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
