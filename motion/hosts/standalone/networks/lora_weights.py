"""LoRA weights under every published naming, and the scope in which an image model wears them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from motion import patching
from motion.errors import MotionError
from motion.hosts.standalone.networks.lora import Lora
from motion.hosts.standalone.parts import Parts
from motion.sampling.lora_products import Product
from motion.settings.lora_tags import lora_tags
from motion.weights.formats import ldm
from motion.weights.formats.lora import flat
from motion.weights.formats.pairs import MOTION_LORA, Pair, open_lora
from motion.weights.formats.unet_layers import unet_layers

TEXT_PREFIXES = (("lora_te_", "lora_te1_", "text_encoder_", ""), ("lora_te2_", "text_encoder_2_"))

_PROJECTION = re.compile(r"self_attn\.(q|k|v|out)_proj$")


@contextmanager
def merge_loras(parts: Parts, loras: Sequence[Lora]) -> Iterator[None]:
    """Within the scope the weights of `parts` are W + weight * alpha / rank * up @ down; on exit the old ones are back.

    Hu et al., https://arxiv.org/abs/2106.09685. LoRAs whose weight is a curve are left out. Raises MotionError for a
    file that is no plain LoRA or was made for another image model.
    """
    with ExitStack() as undo:
        merged = [lora for lora in loras if not lora.varies]
        places = _places(parts) if merged else {}
        for lora in merged:
            weight = float(lora.weight)
            of_text = weight if lora.text_weight is None else lora.text_weight
            for (layer, is_text), pair in _pairs(lora.path, places):
                undo.callback(_put(layer, pair, of_text if is_text else weight))
        yield


def _put(layer: nn.Module, pair: Pair, weight: float) -> patching.Undo:
    """Let a layer compute with the product of the pair; one that is stored in eight bits keeps its weight."""
    original = layer.get_parameter("weight")
    if original.dtype.itemsize == 1:  # would round most of it away
        return patching.after(layer, Product(pair, lambda x: weight), first=True)
    exact = original.float()
    changed = exact + weight * pair.delta(exact).reshape(exact.shape)
    layer.weight = nn.Parameter(changed.to(original.dtype), requires_grad=False)
    return partial(setattr, layer, "weight", original)


@contextmanager
def named_by_texts(parts: Parts, loras: Sequence[Lora], texts: Sequence[str]) -> Iterator[None]:
    """Within the scope the text encoders, given ``texts`` in as many rows each, compute with the weights that its tags
    give in each of them. Raises MotionError as `merge_loras`.
    """
    with ExitStack() as undo:
        places = _places(parts) if loras else {}
        named = [{tag.name: float(tag.text) for tag in lora_tags(text)} for text in texts]
        for lora in loras:
            weights = torch.tensor([tags.get(lora.path.stem, 0.0) for tags in named])
            for (layer, is_text), pair in _pairs(lora.path, places):
                if is_text:
                    undo.callback(patching.after(layer, Product(pair, partial(_of_rows, weights))))
        yield


def _of_rows(weights: Tensor, x: Tensor) -> Tensor:
    """The weight of the text in each row of ``x``."""
    return weights.to(x).repeat_interleave(len(x) // len(weights)).reshape(-1, *[1] * (x.ndim - 1))


class Place(NamedTuple):
    """A layer of the image model, and whether it is one of a text encoder."""

    layer: nn.Module
    is_text: bool


def _pairs(path: Path, places: Mapping[str, Place]) -> Iterator[tuple[Place, Pair]]:
    """The layers that the LoRA at `path` changes, and by what."""
    file = open_lora(path)
    if file.kind == MOTION_LORA:
        raise MotionError(f"{path} is a motion LoRA: give it with --motion-lora FILE:WEIGHT, and not as a LoRA")
    for name, pair in file.pairs.items():
        place = places.get(flat(name))
        if place is None or not pair.fits(*place.layer.get_parameter("weight").shape):
            raise MotionError(f"{path} does not fit this checkpoint (see {name}): choose a LoRA made for its base")
        yield place, pair


def _places(parts: Parts) -> dict[str, Place]:
    """Every layer a LoRA may change, under every name it may be called by."""
    places = {name: Place(layer, False) for name, layer in unet_layers(parts.unet).items()}
    for encoder, prefixes in zip(parts.encoders, TEXT_PREFIXES, strict=False):
        for name, layer in _weighted(encoder.model):
            for spelled in _text_names(name):
                places.update({f"{prefix}{flat(spelled)}": Place(layer, True) for prefix in prefixes})
    return places


def _text_names(name: str) -> Iterator[str]:
    """A text encoder's layer as transformers and LDM call it, and both with diffusers' first names of attention."""
    for spelled in (name, ldm.text_name(name)):
        yield spelled
        yield _PROJECTION.sub(r"self_attn.to_\1", spelled)


def _weighted(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d))
