"""LoRA weights under every published naming, and the scope in which an image model wears them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from torch import nn

from motion.errors import MotionError
from motion.hosts.standalone.networks.lora import Lora
from motion.hosts.standalone.parts import Base, Parts
from motion.weights.formats import ldm
from motion.weights.formats.lora import UNET_PREFIXES, flat
from motion.weights.formats.pairs import MOTION_LORA, Pair, open_lora

Layer = nn.Linear | nn.Conv2d

TEXT_PREFIXES = (("lora_te_", "lora_te1_", "text_encoder_", ""), ("lora_te2_", "text_encoder_2_"))

_PROJECTION = re.compile(r"self_attn\.(q|k|v|out)_proj$")

SDXL_NAMES = {
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "up_blocks.0.upsamplers.0.conv": "output_blocks.2.2.conv",
}
"""The original names of what SDXL has beside or elsewhere than SD1.5."""


@contextmanager
def merge_loras(parts: Parts, loras: Sequence[Lora]) -> Iterator[None]:
    """Within the scope the weights of `parts` are W + weight * alpha / rank * up @ down; on exit the old ones are back.

    Hu et al., https://arxiv.org/abs/2106.09685. Raises MotionError for a file that is no plain LoRA or was made for
    another image model.
    """
    with ExitStack() as undo:
        places = _places(parts) if loras else {}
        for lora in loras:
            of_text = lora.weight if lora.text_weight is None else lora.text_weight
            for (layer, is_text), pair in _pairs(lora.path, places):
                original = layer.weight
                undo.callback(setattr, layer, "weight", original)
                exact = original.float()
                changed = exact + (of_text if is_text else lora.weight) * pair.delta(exact).reshape(exact.shape)
                layer.weight = nn.Parameter(changed.to(original.dtype), requires_grad=False)
        yield


class Place(NamedTuple):
    """A layer of the image model, and whether it is one of a text encoder."""

    layer: Layer
    is_text: bool


def _pairs(path: Path, places: Mapping[str, Place]) -> Iterator[tuple[Place, Pair]]:
    """The layers that the LoRA at `path` changes, and by what."""
    file = open_lora(path)
    if file.kind == MOTION_LORA:
        raise MotionError(f"{path} is a motion LoRA: give it with --motion-lora FILE:WEIGHT, and not as a LoRA")
    for name, pair in file.pairs.items():
        place = places.get(flat(name))
        if place is None or not pair.fits(*place.layer.weight.shape):
            raise MotionError(f"{path} does not fit this checkpoint (see {name}): choose a LoRA made for its base")
        yield place, pair


def _places(parts: Parts) -> dict[str, Place]:
    """Every layer a LoRA may change, under every name it may be called by."""
    places: dict[str, Place] = {}
    for name, layer in _weighted(parts.unet):
        for spelled in (name, _original_name(name, parts.base)):
            places.update({f"{prefix}{flat(spelled)}": Place(layer, False) for prefix in UNET_PREFIXES})
    for encoder, prefixes in zip(parts.encoders, TEXT_PREFIXES, strict=False):
        for name, layer in _weighted(encoder.model):
            for spelled in _text_names(name):
                places.update({f"{prefix}{flat(spelled)}": Place(layer, True) for prefix in prefixes})
    return places


def _original_name(name: str, base: Base) -> str:
    """A UNet layer's name in the original code, which SDXL's LoRAs use."""
    if base == "sdxl" and name in SDXL_NAMES:
        return SDXL_NAMES[name]
    return ldm.unet_name(f"{name}.weight").removesuffix(".weight")


def _text_names(name: str) -> Iterator[str]:
    """A text encoder's layer as transformers and LDM call it, and both with diffusers' first names of attention."""
    for spelled in (name, ldm.text_name(name)):
        yield spelled
        yield _PROJECTION.sub(r"self_attn.to_\1", spelled)


def _weighted(model: nn.Module) -> Iterator[tuple[str, Layer]]:
    return ((name, layer) for name, layer in model.named_modules() if isinstance(layer, Layer))
