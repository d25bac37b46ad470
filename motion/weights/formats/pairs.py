"""LoRA files as pairs of matrices, each with its strength: the one way in for whoever reads them.

A LoRA changes the matrix W of a layer to ``W + weight * scale * up @ down`` (Hu et al. 2021, arXiv:2106.09685). The
scale is alpha / rank, where the file says an alpha: in a tensor beside the two, or in PEFT's configuration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from motion.errors import MotionError
from motion.weights.files import open_weights
from motion.weights.formats.peft import PeftConfig
from motion.weights.kinds import REFUSALS, detect

LORA, DOMAIN_ADAPTER, MOTION_LORA = LORA_KINDS = ("LoRA", "domain adapter", "motion LoRA")
"""The kinds of files (`motion.weights.kinds`) that are LoRAs."""

ENDS = (
    (".lora_down.weight", ".lora_up.weight"),  # kohya, A1111
    (".lora_A.weight", ".lora_B.weight"),  # peft
    (".lora.down.weight", ".lora.up.weight"),  # diffusers
    (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),  # diffusers, text encoders
    ("_lora.down.weight", "_lora.up.weight"),  # attention processors, of the AnimateDiff authors and others
)
"""How a layer's two matrices are told from its name, per naming."""

_PEFT = re.compile(r"(?:base_model\.model\.)?(.*\.lora_[AB])(?:\.\w+)?(\.weight)")
"""PEFT's own names: its wrapper before all layers and, in state dicts, the adapter that a matrix belongs to."""
_DORA = re.compile(r"dora_scale|lora_magnitude_vector")
_OTHERS = {"LoHa": re.compile(r"\.hada_"), "LoKr": re.compile(r"\.lokr_"), "OFT": re.compile(r"\.oft_")}
"""Decompositions that are no pairs, by the names that LyCORIS gives them."""


@dataclass(frozen=True)
class Pair:
    """What is added to one matrix ``[out, in]`` (of a convolution ``[out, in, h, w]``): ``scale * up @ down``.

    ``down`` is ``[rank, in]``, ``up`` is ``[out, rank]``, ``scale`` is alpha / rank, 1 where the file has no alpha.
    """

    down: Tensor
    up: Tensor
    scale: float = 1.0

    def fits(self, *shape: int) -> bool:
        """Whether the product has the numbers of a matrix or convolution of this shape."""
        rank = self.down.shape[0] if self.down.ndim > 1 else 0
        inner = 1
        for size in shape[1:]:
            inner *= size
        return rank > 0 and (self.up.numel(), self.down.numel()) == (shape[0] * rank, rank * inner)

    def delta(self, like: Tensor | None = None) -> Tensor:
        """``scale * up @ down`` as a matrix, with dtype and device of `like`, else of both."""
        rank = self.down.shape[0]
        down, up = (matrix if like is None else matrix.to(like) for matrix in (self.down, self.up))
        return self.scale * (up.reshape(-1, rank) @ down.reshape(rank, -1))


@dataclass(frozen=True)
class LoraFile:
    """The pairs of a LoRA file by its own names of their layers, its metadata, and which of `LORA_KINDS` it is."""

    kind: str
    pairs: Mapping[str, Pair]
    metadata: Mapping[str, str]


def open_lora(path: str | PathLike[str]) -> LoraFile:
    """The LoRA at `path`, under any published naming, in float32 and without a file handle.

    Raises MotionError for other kinds of files, other decompositions (LoHa, LoKr, DoRA) and matrices without their
    half, naming the file and the key or the remedy.
    """
    file = open_weights(path)
    kind = detect(file.tensors).name
    if kind not in LORA_KINDS:
        raise MotionError(f"{path} is {REFUSALS.get(kind, ('a motion module',))[0]}, and no LoRA: choose another file")
    try:
        return LoraFile(kind, pairs(file.tensors, PeftConfig.of(file.metadata, Path(path))), file.metadata)
    except MotionError as error:
        raise MotionError(f"{path} {error}") from error


def pairs(state: Mapping[str, Tensor], peft: PeftConfig) -> dict[str, Pair]:
    """The pairs of a LoRA's state dict by the file's own names of their layers, copied as float32.

    `peft` holds where the file has no ``.alpha`` of a layer. Raises MotionError, as the end of a sentence, with the
    first key that belongs to no pair.
    """
    plain: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = _PEFT.sub(r"\1\2", key)
        if name in plain:
            raise MotionError(f"holds several adapters (see {key}): save them one by one")
        plain[name] = tensor
    ends = {
        key.removesuffix(down): (key, key.removesuffix(down) + up)
        for key in plain
        for down, up in ENDS
        if key.endswith(down)
    }
    _check_names(plain, {key for pair in ends.values() for key in pair} | {f"{name}.alpha" for name in ends})
    made = {}
    for name, keys in ends.items():
        down, up = (plain[key].to(torch.float32, copy=True) for key in keys)
        rank = down.shape[0] if down.ndim else 0
        alpha = plain.get(f"{name}.alpha")
        scale = peft.scale(name, rank) if alpha is None else float(alpha) / rank if rank else 1.0
        made[name] = Pair(down, up, scale)
    return made


def _check_names(state: Mapping[str, Tensor], known: set[str]) -> None:
    dora = next(filter(_DORA.search, state), None)
    if dora is not None:
        raise MotionError(f"is a DoRA (see {dora}), which is not supported: merge it into a checkpoint first")
    for kind, pattern in _OTHERS.items():
        if other := next(filter(pattern.search, sorted(state)), None):
            raise MotionError(
                f"is not a plain LoRA but a {kind} (see {other}): choose one with lora_down and lora_up layers"
            )
    for key in sorted(state.keys() ^ known):
        if key in state or not key.endswith(".alpha"):
            raise MotionError(f"is not a plain LoRA (see {key}): choose one with lora_down and lora_up layers")
