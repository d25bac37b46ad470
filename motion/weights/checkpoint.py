"""Weights files: `read` gives any file's tensors, `load` a published motion module as a model."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike

import torch
from torch import Tensor

from motion.errors import MotionError
from motion.models.motion.architecture import FAMILIES, Architecture, Family, Slot
from motion.models.motion.model import MotionModel
from motion.weights.files import WeightsFile, open_weights
from motion.weights.formats.names import to_canonical
from motion.weights.kinds import MOTION_MODULE, Kind, detect, refusal

FAMILY_HINT = "motion.family"
"""The key of a safetensors file's metadata under which our own files name their family."""

# Keys and shapes separate these groups, by base and mid block; within one, position tables only suggest the family.
SIBLINGS = {
    ("sd15", False): ("v1", "v3"),
    ("sd15", True): ("v2", "animatelcm"),
    ("sdxl", False): ("sdxl", "hotshot"),
    ("sdxl", True): ("sdxl", "hotshot"),
}

V1_POSITIONS = 24
_MARK = ".temporal_transformer."


def read(path: str | PathLike[str]) -> dict[str, Tensor]:
    """Every tensor of the file at `path` under its own name, on the CPU, in the file's dtype.

    ``.safetensors .sft``, and ``.ckpt .pt .pth .bin`` through the restricted unpickler; any of these names may hold
    safetensors, but none of the first two a pickle. The wrappers ``state_dict``, ``controlnet``,
    ``module``, ``model`` and ``animatediff_config`` are peeled off, scaled fp8 is multiplied out. Tensors stay mapped
    to the file until they are used.
    Raises MotionError, in one sentence, for everything else.
    """
    return open_weights(path).tensors


def load(path: str | PathLike[str], family: str | None = None) -> MotionModel:
    """The motion module at `path`, of any published naming, strictly loaded; it keeps the file's dtype and no handle.

    A file of several float dtypes is raised to float32. The family follows from keys and shapes (`identify`); `family`
    overrides what they cannot tell. Raises MotionError, naming the file and the key or the remedy, for files of another
    kind and for incomplete or misshapen modules.
    """
    file = open_weights(path)
    kind = detect(file.tensors)
    if kind.name != MOTION_MODULE:
        raise MotionError(f"{path} {refusal(kind)}")
    try:
        state, architecture = interpret(file, kind, family)
    except MotionError as error:
        raise MotionError(f"{path}: {error}") from error
    return MotionModel.from_state(architecture, with_own_storage(state))


def with_own_storage(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of `state`, all in its dtype, or, of several, in float32."""
    dtypes = {tensor.dtype for tensor in state.values()}
    dtype = dtypes.pop() if len(dtypes) == 1 else torch.float32
    # Copied, because a mapped file that is replaced under a running model takes the process with it.
    return {key: tensor.to(dtype, copy=True) for key, tensor in state.items()}


def interpret(file: WeightsFile, kind: Kind, family: str | None = None) -> tuple[dict[str, Tensor], Architecture]:
    """A motion module's tensors in the authors' names, and the architecture that they fill exactly.

    Raises MotionError, with the key's name, where they do not.
    """
    state = to_canonical(file.tensors, kind.layout)
    architecture = identify(state, family or file.metadata.get(FAMILY_HINT), strict=family is not None)
    with torch.device("meta"):
        expected = MotionModel(architecture).state_dict()
    check(state, expected, "module")
    return state, architecture


def identify(state: Mapping[str, Tensor], hint: str | None = None, strict: bool = False) -> Architecture:
    """The architecture of a motion module in the authors' names: slots from its shapes, family from what sets it apart.

    ======  =====  =====================  ==========
    levels  mid    position table         family
    ======  =====  =====================  ==========
    3       any    24                     hotshot
    3       any    any other              sdxl
    other   yes    none                   animatelcm
    other   yes    any                    v2
    other   no     24, or repeats them    v1
    other   no     any other, or none     v3
    ======  =====  =====================  ==========

    Lightning is v2 by keys and by rules. Fine-tunes are what they began as. The tables of v1 and v3 are the same
    sinusoid, so of files without a mid block only the length tells, or that rows repeat: v1's 24 were laid end to end
    for longer clips. Every other length (LongAnimateDiff's 64, a narrow model's 16) follows v3's rules. A v3 trained
    with 24 positions looks like v1, and a v1 with a longer sinusoid like v3: `hint`, a family's name, settles it,
    within the group of `SIBLINGS` that the keys leave open. Outside of it a hint counts for nothing, or, if `strict`,
    raises MotionError.
    """
    slots = _slots(state)
    blocks = [slot.name.split(".") for slot in slots]
    levels = 1 + max((int(block[1]) for block in blocks if block[0] != "mid_block"), default=0)
    mid = any(block[0] == "mid_block" for block in blocks)
    siblings = SIBLINGS["sdxl" if levels == 3 else "sd15", mid]
    if hint in siblings:
        return Architecture(FAMILIES[hint], slots)
    if strict:
        raise MotionError(f"family {hint!r} does not fit this file; it can be {' or '.join(siblings)}.")
    positions = slots[0].positions
    if levels != 3 and not mid and positions and _repeats(state, slots[0]):
        positions = V1_POSITIONS
    return Architecture(_family(levels, mid, positions), slots)


def _repeats(state: Mapping[str, Tensor], slot: Slot) -> bool:
    """Whether the rows of the slot's position table begin anew behind v1's last one, or before."""
    table = state[_table(slot.name)][0].float()
    again = (table[1 : V1_POSITIONS + 1] == table[0]).all(dim=1).nonzero()
    period = int(again[0]) + 1 if len(again) else len(table)
    return 1 < period < len(table) and torch.equal(table[period:], table[:-period])


def _family(levels: int, mid: bool, positions: int | None) -> Family:
    if levels == 3:
        return FAMILIES["hotshot" if positions == 24 else "sdxl"]
    if mid:
        return FAMILIES["animatelcm" if positions is None else "v2"]
    return FAMILIES["v1" if positions == V1_POSITIONS else "v3"]


def _slots(state: Mapping[str, Tensor]) -> tuple[Slot, ...]:
    names = sorted({key.partition(_MARK)[0] for key in state})
    if not names:
        raise MotionError("it holds no motion layers; give a motion module such as v3_sd15_mm.")
    return tuple(_slot(name, state) for name in names)


def _table(slot: str) -> str:
    return f"{slot}{_MARK}transformer_blocks.0.attention_blocks.0.pos_encoder.pe"


def _slot(name: str, state: Mapping[str, Tensor]) -> Slot:
    """The slot's shape. Only its square projection is trusted, so that no shape is larger than the file itself."""
    key = f"{name}{_MARK}proj_in.weight"
    shape = state[key].shape if key in state else None
    if shape is None or len(shape) != 2 or shape[0] != shape[1]:
        found = "is missing" if shape is None else f"is {list(shape)} and not square"
        raise MotionError(f"{key!r} {found}; the file is damaged, download it again.")
    blocks = f"{name}{_MARK}transformer_blocks.0.attention_blocks."
    attentions = len({key[len(blocks) :].partition(".")[0] for key in state if key.startswith(blocks)})
    table = state.get(_table(name))
    positions = None if table is None else table.shape[1] if table.shape[::2] == (1, shape[0]) else 0
    return Slot(name, shape[0], positions, attentions)


def check(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], what: str) -> None:
    """Raise MotionError with the name of the first key that is missing, left over, misshapen or not a float.

    `expected` is the state dict of the model that `state` should fill, `what` that model is called in a sentence.
    """
    for key in sorted(expected.keys() ^ state.keys()):
        found = "is missing" if key in expected else f"is not part of the {what}"
        raise MotionError(f"{key!r} {found}; the file is damaged, download it again.")
    for key, tensor in state.items():
        if tensor.shape != expected[key].shape or not tensor.is_floating_point():
            raise MotionError(
                f"{key!r} is {tensor.dtype} {list(tensor.shape)} where floats {list(expected[key].shape)} belong; "
                "the file is damaged, download it again."
            )
