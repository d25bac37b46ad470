"""What a weights file is, as one JSON-able table."""

from __future__ import annotations

import hashlib
from collections import Counter
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from motion.errors import MotionError
from motion.models.motion.architecture import Architecture
from motion.weights.checkpoint import interpret
from motion.weights.files import WeightsFile, open_weights
from motion.weights.kinds import MOTION_MODULE, Kind, detect


class Outline(NamedTuple):
    """What a file's names and shapes tell; None where it does not apply.

    `channels` lists the widths from the outside in, `frames` is the longest clip, `problem` says why a motion module
    will not load.
    """

    kind: str
    layout: str
    base: str | None
    family: str | None
    channels: list[int] | None
    slots: int | None
    frames: int | None
    problem: str | None


def outline(file: WeightsFile) -> Outline:
    """What the opened `file` is, of every kind that `motion.weights.kinds` knows; of its data a table is read."""
    kind = detect(file.tensors)
    architecture, problem = _architecture(file, kind)
    slots = architecture.slots if architecture else ()
    return Outline(
        kind=kind.name,
        layout=kind.layout,
        base=architecture.family.base if architecture else kind.base,
        family=architecture.family.name if architecture else None,
        channels=sorted({slot.channels for slot in slots}) or None,
        slots=len(slots) or None,
        frames=architecture.max_frames if architecture else None,
        problem=problem,
    )


def describe(path: str | PathLike[str]) -> dict[str, object]:
    """The `Outline` of the weights file at `path`, field by field, and its measures.

    ``parameters`` counts learned numbers, position tables excluded; ``dtype`` is that of most of them; ``size`` is in
    bytes, ``sha256`` over the whole file, ``container`` is "safetensors" or "pickle". Raises MotionError where
    `motion.weights.read` does.
    """
    file = open_weights(path)
    dtypes: Counter[str] = Counter()
    for name, tensor in file.tensors.items():
        if not name.endswith((".pe", ".positional_encoding")):
            dtypes[str(tensor.dtype).removeprefix("torch.")] += tensor.numel()
    return {
        "file": Path(path).name,
        **outline(file)._asdict(),
        "tensors": len(file.tensors),
        "parameters": dtypes.total(),
        "dtype": dtypes.most_common(1)[0][0] if dtypes else None,
        "container": file.container,
        "size": Path(path).stat().st_size,
        "sha256": sha256(path),
        "metadata": file.metadata,
    }


def _architecture(file: WeightsFile, kind: Kind) -> tuple[Architecture | None, str | None]:
    if kind.name != MOTION_MODULE:
        return None, None
    try:
        return interpret(file, kind)[1], None
    except MotionError as error:
        return None, str(error)


def sha256(path: str | PathLike[str]) -> str:
    """The SHA-256 of the whole file in hexadecimal. Raises OSError."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
