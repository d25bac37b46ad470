"""Key names: one literal table per published naming, to and from the AnimateDiff authors' names.

A motion module holds one temporal transformer per slot. Only two things differ between the namings: where the slot sits
(``SLOTS``) and what its tensors are called below that (``TABLES``). In both, ``{block}`` stands for ``down_blocks.N``,
``mid_block`` or ``up_blocks.N``, and ``{n}`` and ``{a}`` for a number. A table's value is the authors' name, several of
them where one foreign tensor serves several places, or None where the tensor is known and deliberately dropped.

Sources: the AnimateDiff authors' ``motion_module.py``, Hotshot-XL's ``transformer_temporal.py`` and the parameter names
that diffusers' ``MotionAdapter`` has when it is instantiated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

from motion.errors import MotionError

Names = Mapping[str, "str | tuple[str, ...] | None"]

SLOTS = {
    "authors": "{block}.motion_modules.{n}.temporal_transformer.",
    "hotshot": "{block}.temporal_attentions.{n}.",
    "diffusers": "{block}.motion_modules.{n}.",
}

AUTHORS: Names = {
    name: name
    for name in (
        "norm.weight",
        "norm.bias",
        "proj_in.weight",
        "proj_in.bias",
        "transformer_blocks.0.attention_blocks.{a}.to_q.weight",
        "transformer_blocks.0.attention_blocks.{a}.to_k.weight",
        "transformer_blocks.0.attention_blocks.{a}.to_v.weight",
        "transformer_blocks.0.attention_blocks.{a}.to_out.0.weight",
        "transformer_blocks.0.attention_blocks.{a}.to_out.0.bias",
        "transformer_blocks.0.attention_blocks.{a}.pos_encoder.pe",
        "transformer_blocks.0.norms.{a}.weight",
        "transformer_blocks.0.norms.{a}.bias",
        "transformer_blocks.0.ff.net.0.proj.weight",
        "transformer_blocks.0.ff.net.0.proj.bias",
        "transformer_blocks.0.ff.net.2.weight",
        "transformer_blocks.0.ff.net.2.bias",
        "transformer_blocks.0.ff_norm.weight",
        "transformer_blocks.0.ff_norm.bias",
        "proj_out.weight",
        "proj_out.bias",
    )
}

HOTSHOT: Names = {
    **AUTHORS,
    "transformer_blocks.0.attention_blocks.{a}.pos_encoder.positional_encoding": (
        "transformer_blocks.0.attention_blocks.{a}.pos_encoder.pe"
    ),
}

DIFFUSERS: Names = {
    "norm.weight": "norm.weight",
    "norm.bias": "norm.bias",
    "proj_in.weight": "proj_in.weight",
    "proj_in.bias": "proj_in.bias",
    "transformer_blocks.0.pos_embed.pe": (
        "transformer_blocks.0.attention_blocks.0.pos_encoder.pe",
        "transformer_blocks.0.attention_blocks.1.pos_encoder.pe",
    ),
    "transformer_blocks.0.norm1.weight": "transformer_blocks.0.norms.0.weight",
    "transformer_blocks.0.norm1.bias": "transformer_blocks.0.norms.0.bias",
    "transformer_blocks.0.attn1.to_q.weight": "transformer_blocks.0.attention_blocks.0.to_q.weight",
    "transformer_blocks.0.attn1.to_k.weight": "transformer_blocks.0.attention_blocks.0.to_k.weight",
    "transformer_blocks.0.attn1.to_v.weight": "transformer_blocks.0.attention_blocks.0.to_v.weight",
    "transformer_blocks.0.attn1.to_out.0.weight": "transformer_blocks.0.attention_blocks.0.to_out.0.weight",
    "transformer_blocks.0.attn1.to_out.0.bias": "transformer_blocks.0.attention_blocks.0.to_out.0.bias",
    "transformer_blocks.0.norm2.weight": "transformer_blocks.0.norms.1.weight",
    "transformer_blocks.0.norm2.bias": "transformer_blocks.0.norms.1.bias",
    "transformer_blocks.0.attn2.to_q.weight": "transformer_blocks.0.attention_blocks.1.to_q.weight",
    "transformer_blocks.0.attn2.to_k.weight": "transformer_blocks.0.attention_blocks.1.to_k.weight",
    "transformer_blocks.0.attn2.to_v.weight": "transformer_blocks.0.attention_blocks.1.to_v.weight",
    "transformer_blocks.0.attn2.to_out.0.weight": "transformer_blocks.0.attention_blocks.1.to_out.0.weight",
    "transformer_blocks.0.attn2.to_out.0.bias": "transformer_blocks.0.attention_blocks.1.to_out.0.bias",
    "transformer_blocks.0.norm3.weight": "transformer_blocks.0.ff_norm.weight",
    "transformer_blocks.0.norm3.bias": "transformer_blocks.0.ff_norm.bias",
    "transformer_blocks.0.ff.net.0.proj.weight": "transformer_blocks.0.ff.net.0.proj.weight",
    "transformer_blocks.0.ff.net.0.proj.bias": "transformer_blocks.0.ff.net.0.proj.bias",
    "transformer_blocks.0.ff.net.2.weight": "transformer_blocks.0.ff.net.2.weight",
    "transformer_blocks.0.ff.net.2.bias": "transformer_blocks.0.ff.net.2.bias",
    "proj_out.weight": "proj_out.weight",
    "proj_out.bias": "proj_out.bias",
}

TABLES = {"authors": AUTHORS, "hotshot": HOTSHOT, "diffusers": DIFFUSERS}

# A training run of the authors saves the whole video UNet, and so do Hotshot-XL and diffusers' UNetMotionModel. Its
# spatial layers are those of the image model, which the user brings along: known, and dropped like the authors do.
SPATIAL: Names = {
    "conv_in.{rest}": None,
    "time_embedding.{rest}": None,
    "add_embedding.{rest}": None,
    "{block}.resnets.{rest}": None,
    "{block}.attentions.{rest}": None,
    "{block}.downsamplers.{rest}": None,
    "{block}.upsamplers.{rest}": None,
    "conv_norm_out.{rest}": None,
    "conv_out.{rest}": None,
}

_PLACEHOLDERS = {
    r"\{block\}": r"(?P<block>down_blocks\.\d+|mid_block|up_blocks\.\d+)",
    r"\{n\}": r"(?P<n>\d+)",
    r"\{a\}": r"(?P<a>\d+)",
    r"\{rest\}": r"(?P<rest>.+)",
}


_WRAPPED = re.compile(
    r"((?:(?!(?:down|mid|up)_block)\w+\.)+)(?:down_blocks\.\d+|mid_block|up_blocks\.\d+)\..*(?:motion_modules|temporal_attentions)\.",
    re.ASCII,
)


def without_wrapper(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state` without the name that a training script's own class puts before a UNet with motion layers (``unet.``).

    It stays as it is where not all names begin so.
    """
    wrapped = next(filter(None, map(_WRAPPED.match, state)), None)
    if wrapped is None or not all(name.startswith(wrapped[1]) for name in state):
        return state
    return {name.removeprefix(wrapped[1]): tensor for name, tensor in state.items()}


def to_canonical(state: Mapping[str, Tensor], layout: str) -> dict[str, Tensor]:
    """Rename a motion module from `layout` (a key of `TABLES`) to the authors' names; tensors are shared, not copied.

    Raises MotionError with the name of the first key that the layout does not have.
    """
    slot = SLOTS[layout]
    rows = {slot + source: targets for source, targets in TABLES[layout].items()} | dict(SPATIAL)
    return _rename(state, rows, SLOTS["authors"])


def to_diffusers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a motion module from the authors' names to diffusers' `MotionAdapter` names: its table, inverted.

    Diffusers keeps one position table for both attentions of a slot. Raises MotionError when the two of a slot differ,
    because nothing may be lost on the way, and with the key's name when a key is not one of the authors'.
    """
    rows: dict[str, str | tuple[str, ...] | None] = {
        SLOTS["authors"] + target: source
        for source, targets in DIFFUSERS.items()
        for target in ([targets] if isinstance(targets, str) else targets or ())
    }
    return _rename(state, rows, SLOTS["diffusers"])


def _rename(state: Mapping[str, Tensor], rows: Names, slot: str) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        found = next(((match, row) for row in rows if (match := _pattern(row).fullmatch(key))), None)
        if found is None:
            raise MotionError(f"key {key!r} belongs to no motion module; get the original file.")
        match, row = found
        targets = rows[row]
        for target in [targets] if isinstance(targets, str) else targets or ():
            name = (slot + target).format(**match.groupdict())
            if name in renamed and not _same(renamed[name], tensor):
                raise MotionError(f"key {key!r} differs from its twin and {name!r} holds only one; make them equal.")
            renamed[name] = tensor
    return renamed


def children(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered children stand under `prefix`."""
    return len({name[len(prefix) :].partition(".")[0] for name in state if name.startswith(prefix)})


def _same(first: Tensor, second: Tensor) -> bool:
    return first.dtype == second.dtype and torch.equal(first, second)


@cache
def _pattern(row: str) -> re.Pattern[str]:
    pattern = re.escape(row)
    for placeholder, expression in _PLACEHOLDERS.items():
        pattern = pattern.replace(placeholder, expression)
    return re.compile(pattern, re.ASCII)
