"""Key names of the published namings, to the authors' own, which `SparseEncoder`'s parameters have.

Nothing is written down twice: diffusers differs in the temporal layers, by the table of the motion modules; the files
converted for AUTOMATIC1111 (conrevo's) in the spatial ones, by the LDM names that checkpoints have, with the parts of a
ControlNet under the names of its authors' code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

from motion.weights.formats.ldm import unet_name
from motion.weights.formats.names import DIFFUSERS
from sparsectrl.encoder import Shape, SparseEncoder

_CONTROL = {
    r"controlnet_cond_embedding\.": "input_hint_block.0.",
    r"controlnet_down_blocks\.(\d+)\.": r"zero_convs.\1.0.",
    r"controlnet_mid_block\.": "middle_block_out.0.",
    r"(?=down_blocks\.\d+\.motion_modules\.)": "",
}
_PREFIX = "control_model."
"""Where the code of ControlNet's authors keeps a control; some tools write it into the file."""


def to_canonical(state: Mapping[str, Tensor], layout: str) -> dict[str, Tensor]:
    """``state`` of the ``layout`` that `motion.weights.kinds` names, under the authors' names; tensors are shared.

    A key that the layout does not have keeps its name.
    """
    if layout == "a1111":
        plain = {name.removeprefix(_PREFIX): tensor for name, tensor in state.items()}
        return {_from_a1111().get(name, name): tensor for name, tensor in plain.items()}
    return {_from_diffusers(name) if layout == "diffusers" else name: tensor for name, tensor in state.items()}


def to_a1111(name: str) -> str:
    """The authors' name of a tensor -> the one in the files converted for AUTOMATIC1111."""
    for pattern, replacement in _CONTROL.items():
        renamed, count = re.subn(f"^{pattern}", replacement, name)
        if count:
            return renamed
    return unet_name(name)


@cache
def _from_a1111() -> dict[str, str]:
    """`to_a1111` backwards, for every tensor that an encoder of SD1.5's topology may have."""
    with torch.device("meta"):
        encoders = [SparseEncoder(Shape(embedding=widths)) for widths in ((), (16, 32, 96, 256))]
    return {to_a1111(name): name for encoder in encoders for name in encoder.state_dict()}


def _from_diffusers(name: str) -> str:
    """The authors' name of diffusers' ``name``; of the two attentions of a motion module an encoder has the first."""
    slot = re.match(r"down_blocks\.\d+\.motion_modules\.\d+\.", name)
    target = DIFFUSERS.get(name[slot.end() :]) if slot else None
    if slot is None or target is None:
        return name
    return f"{slot[0]}temporal_transformer.{target if isinstance(target, str) else target[0]}"
