"""A SparseCtrl file as an encoder."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike

import torch
from torch import Tensor

from motion.errors import MotionError
from motion.weights.checkpoint import check, with_own_storage
from motion.weights.files import open_weights
from motion.weights.formats.names import children
from motion.weights.kinds import SPARSECTRL, detect, title
from sparsectrl.encoder import Shape, SparseEncoder
from sparsectrl.names import to_canonical

_DAMAGED = "the file is damaged, download it again."


def load(path: str | PathLike[str]) -> SparseEncoder:
    """The encoder in the file at ``path``, RGB, scribble or of any other condition, of any published naming.

    Strictly loaded; it keeps the file's dtype (of several: float32) and no handle. Raises MotionError, naming the file
    and the key or the remedy, for files of another kind and for incomplete or misshapen encoders.
    """
    state, shape = _opened(path)
    try:
        with torch.device("meta"):
            encoder = SparseEncoder(shape)
        check(state, encoder.state_dict(), "encoder")
    except MotionError as error:
        raise MotionError(f"{path}: {error}") from error
    encoder.load_state_dict(with_own_storage(state), strict=True, assign=True)
    return encoder.requires_grad_(False).eval()


def outline(path: str | PathLike[str]) -> Shape:
    """The shape of the encoder in the file at ``path``, of which no data is read. Raises MotionError as `load` does."""
    return _opened(path)[1]


def _opened(path: str | PathLike[str]) -> tuple[dict[str, Tensor], Shape]:
    file = open_weights(path)
    kind = detect(file.tensors)
    if kind.name != SPARSECTRL:
        raise MotionError(
            f"{path} is {title(kind)}, and not a SparseCtrl encoder; give one such as v3_sd15_sparsectrl_rgb here."
        )
    try:
        state = to_canonical(file.tensors, kind.layout)
        return state, shape_of(state)
    except MotionError as error:
        raise MotionError(f"{path}: {error}") from error


def shape_of(state: Mapping[str, Tensor]) -> Shape:
    """The shape of an encoder in the authors' names. Raises MotionError with the name of a key that must be there."""
    levels = children(state, "down_blocks.")
    temporal = "down_blocks.0.motion_modules.0.temporal_transformer."
    table = state.get(f"{temporal}transformer_blocks.0.attention_blocks.0.pos_encoder.pe")
    embedding, simple = "controlnet_cond_embedding.", "controlnet_cond_embedding.weight" in state
    # The convolutions of a pixel embedding alternate: one keeps the width, the next leads to that of a pair further on.
    pairs = [] if simple else range(1, children(state, f"{embedding}blocks."), 2)
    first = f"{embedding}weight" if simple else f"{embedding}conv_in.weight"
    widths = tuple(_size(state, f"down_blocks.{level}.resnets.0.conv1.weight", 0) for level in range(levels))
    return Shape(
        widths=widths,
        context=_size(state, "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight", 1),
        condition=_size(state, first, 1) - 1,
        embedding=() if simple else (
            _size(state, first, 0), *(_size(state, f"{embedding}blocks.{block}.weight", 0) for block in pairs)
        ),
        temporal=any(name.startswith(temporal) for name in state),
        positions=None if table is None else table.shape[1] if table.shape[::2] == (1, widths[0]) else 0,
        layers=children(state, "down_blocks.0.resnets."),
        latents=_size(state, "conv_in.weight", 1),
    )  # fmt: skip


def _size(state: Mapping[str, Tensor], name: str, axis: int) -> int:
    tensor = state.get(name)
    if tensor is None or tensor.ndim <= axis:
        raise MotionError(f"{name!r} is {'missing' if tensor is None else 'misshapen'}; {_DAMAGED}")
    return tensor.shape[axis]
