"""Matrices in eight bits with a scale beside each, as ComfyUI stores them ("scaled fp8"), in their full numbers.

``W = scale * stored``. The scale of ``layer.weight`` is ``layer.scale_weight`` in older files, in later ones
``layer.weight_scale``; what else stands beside it is for hardware that multiplies eight bits by eight.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from motion.errors import MotionError

SCALES = (".scale_weight", ".weight_scale")
BESIDE = (".scale_input", ".input_scale", ".comfy_quant")
MARK = "scaled_fp8"
EIGHT_BITS = (torch.float8_e4m3fn, torch.float8_e5m2)


def unscaled(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` with every scaled matrix in float32 and without what is beside them; the rest is shared, not copied.

    Raises MotionError, as the end of a sentence, for a matrix that is packed otherwise.
    """
    scales = {key.removesuffix(end) + ".weight": key for key in state for end in SCALES if key.endswith(end)}
    beside = {key for key in state if key.endswith(BESIDE) or key.rpartition(".")[2] == MARK}
    plain = {key: tensor for key, tensor in state.items() if key not in beside and key not in scales.values()}
    for name, key in scales.items():
        plain[name] = _product(name, plain.get(name), state[key])
    return plain


def _product(name: str, stored: Tensor | None, scale: Tensor) -> Tensor:
    """One scale for all of the matrix, or one for each of its rows."""
    if stored is None or stored.dtype not in EIGHT_BITS or scale.numel() not in (1, len(stored)):
        raise MotionError(f"holds {name!r} in a packed form, which is not read here; get its fp16 version.")
    return stored.float() * scale.float().reshape(-1, *[1] * (stored.ndim - 1))
