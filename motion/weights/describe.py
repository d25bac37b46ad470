"""What a weights file is, as one JSON-able table."""

from __future__ import annotations

import hashlib
from collections import Counter
from os import PathLike
from pathlib import Path

from motion.errors import MotionError
from motion.network.architecture import Architecture
from motion.weights.checkpoint import interpret
from motion.weights.files import WeightsFile, open_weights
from motion.weights.kinds import MOTION_MODULE, Kind, detect


def describe(path: str | PathLike[str]) -> dict[str, object]:
    """Kind, family and measures of the weights file at `path`, of every kind that `motion.weights.kinds` knows.

    ``kind layout base family channels slots frames problem`` (None where they do not apply): ``channels`` lists the
    widths from the outside in, ``frames`` is the longest clip, ``problem`` says why a motion module will not load.
    ``parameters`` counts learned numbers, position tables excluded; ``dtype`` is that of most of them; ``size`` is in
    bytes, ``sha256`` over the whole file, ``container`` is "safetensors" or "pickle". Raises MotionError where
    `motion.weights.read` does.
    """
    file = open_weights(path)
    kind = detect(file.tensors)
    architecture, problem = _architecture(file, kind)
    slots = architecture.slots if architecture else ()
    dtypes: Counter[str] = Counter()
    for name, tensor in file.tensors.items():
        if not name.endswith((".pe", ".positional_encoding")):
            dtypes[str(tensor.dtype).removeprefix("torch.")] += tensor.numel()
    return {
        "file": Path(path).name,
        "kind": kind.name,
        "layout": kind.layout,
        "base": architecture.family.base if architecture else kind.base,
        "family": architecture.family.name if architecture else None,
        "channels": sorted({slot.channels for slot in slots}) or None,
        "slots": len(slots) or None,
        "frames": architecture.max_frames if architecture else None,
        "problem": problem,
        "tensors": len(file.tensors),
        "parameters": dtypes.total(),
        "dtype": dtypes.most_common(1)[0][0] if dtypes else None,
        "container": file.container,
        "size": Path(path).stat().st_size,
        "sha256": _sha256(Path(path)),
        "metadata": file.metadata,
    }


def _architecture(file: WeightsFile, kind: Kind) -> tuple[Architecture | None, str | None]:
    if kind.name != MOTION_MODULE:
        return None, None
    try:
        return interpret(file, kind)[1], None
    except MotionError as error:
        return None, str(error)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
