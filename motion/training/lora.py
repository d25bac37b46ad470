"""LoRAs that learn: fresh ones for the layers of an adapter or of a motion LoRA, and their files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from motion.models import sites
from motion.models.motion.model import MotionModel
from motion.training.files import save_tensors
from motion.weights.formats.lora import Lora, Target, to_authors
from motion.weights.formats.pairs import Pair

Layers = Mapping[str, tuple[int, int]]
"""Numbers of outputs and inputs by the neutral names of `motion.weights.formats.lora.Lora`."""


class LoraWeights(nn.Module):
    """The matrices of a new LoRA of `rank`: ``down`` random with a deviation of 1 / rank, ``up`` zero, alpha = rank.

    It begins as if it were not there; `lora` is the LoRA that shares its parameters.
    """

    def __init__(self, layers: Layers, target: Target, rank: int) -> None:
        super().__init__()
        self.target = target
        self.layers = tuple(layers)
        self.down = nn.ParameterList(torch.randn(rank, inner) / rank for _, inner in layers.values())
        self.up = nn.ParameterList(torch.zeros(out, rank) for out, _ in layers.values())

    @property
    def lora(self) -> Lora:
        pairs = {name: Pair(*both) for name, *both in zip(self.layers, self.down, self.up, strict=True)}
        return Lora("the one in training", self.target, pairs, {})


def adapter_layers(unet: nn.Module) -> Layers:
    """What the domain adapter changes: queries, keys, values and outputs of all spatial attention."""
    layers = sites.attention_layers(unet)
    return {name: (int(layer.out_features), int(layer.in_features)) for name, layer in layers.items()}  # type: ignore[arg-type]


def motion_layers(model: MotionModel) -> Layers:
    """What a motion LoRA changes: queries, keys, values and outputs of all temporal attention."""
    blocks = "temporal_transformer.transformer_blocks.0.attention_blocks"
    return {
        f"{slot.name}.{blocks}.{attention}.{part}": (slot.channels, slot.channels)
        for slot in model.architecture.slots
        for attention in range(slot.attentions)
        for part in ("to_q", "to_k", "to_v", "to_out.0")
    }


def save_lora(weights: LoraWeights, path: Path, metadata: Mapping[str, str]) -> Path:
    """Write it under the authors' names, fp16."""
    return save_tensors(to_authors(weights.lora), path, metadata)
