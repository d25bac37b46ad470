"""LoRA weights under every published naming, and the scope in which an image model wears them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from torch import Tensor, nn

from motion.errors import MotionError
from motion.hosts.standalone.lora import Lora
from motion.hosts.standalone.parts import Base, Parts
from motion.weights import checkpoint, ldm
from motion.weights.lora import UNET_PREFIXES, flat, pairs

Layer = nn.Linear | nn.Conv2d

TEXT_PREFIXES = (("lora_te_", "lora_te1_", "text_encoder_"), ("lora_te2_", "text_encoder_2_"))

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
        layers = _layers(parts) if loras else {}
        for lora in loras:
            for layer, delta in _deltas(lora.path, layers):
                original = layer.weight
                undo.callback(setattr, layer, "weight", original)
                changed = original.float() + lora.weight * delta.to(original.device)
                layer.weight = nn.Parameter(changed.to(original.dtype), requires_grad=False)
        yield


def _deltas(path: Path, layers: Mapping[str, Layer]) -> Iterator[tuple[Layer, Tensor]]:
    """The layers that the LoRA at `path` changes, and by what."""
    try:
        found = pairs(checkpoint.read(path))
    except MotionError as error:
        raise MotionError(f"{path} {error}") from error
    for name, pair in found.items():
        layer = layers.get(flat(name))
        if layer is None or not pair.fits(*layer.weight.shape):
            raise MotionError(f"{path} does not fit this checkpoint (see {name}): choose a LoRA made for its base")
        yield layer, pair.delta().reshape(layer.weight.shape)


def _layers(parts: Parts) -> dict[str, Layer]:
    """Every layer a LoRA may change, under every name it may be called by."""
    layers: dict[str, Layer] = {}
    for name, layer in _weighted(parts.unet):
        for spelled in (name, _original_name(name, parts.base)):
            layers.update({f"{prefix}{flat(spelled)}": layer for prefix in UNET_PREFIXES})
    for encoder, prefixes in zip(parts.encoders, TEXT_PREFIXES, strict=False):
        for name, layer in _weighted(encoder.model):
            for spelled in (name, ldm.text_name(name)):
                layers.update({f"{prefix}{flat(spelled)}": layer for prefix in prefixes})
    return layers


def _original_name(name: str, base: Base) -> str:
    """A UNet layer's name in the original code, which SDXL's LoRAs use."""
    if base == "sdxl" and name in SDXL_NAMES:
        return SDXL_NAMES[name]
    return ldm.unet_name(f"{name}.weight").removesuffix(".weight")


def _weighted(model: nn.Module) -> Iterator[tuple[str, Layer]]:
    return ((name, layer) for name, layer in model.named_modules() if isinstance(layer, Layer))
