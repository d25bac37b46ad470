"""IP-Adapter files: ip-adapter_sd15, plus, full-face and those for SDXL, as `.safetensors` and as `.bin`."""

from __future__ import annotations

from os import PathLike

import torch

from motion.errors import MotionError
from motion.models.ip_adapter.model import IPAdapter
from motion.weights.checkpoint import check, with_own_storage
from motion.weights.files import open_weights
from motion.weights.kinds import REFUSALS, detect

KIND = "IP-Adapter"


def load(path: str | PathLike[str]) -> IPAdapter:
    """The IP-Adapter at ``path``, strictly loaded, on the CPU in the file's dtype.

    Raises MotionError, naming the file, for one of another kind, a FaceID adapter, and one that is incomplete.
    """
    tensors = open_weights(path).tensors
    kind = detect(tensors)
    if kind.name != KIND:
        title, _ = REFUSALS.get(kind.name, (f"a {kind.name}", ""))
        raise MotionError(f"{path} is {title} and no IP-Adapter: give a file such as ip-adapter_sd15")
    try:
        with torch.device("meta"):
            adapter = IPAdapter.of_shapes(tensors)
        check(tensors, adapter.state_dict(), KIND)
    except MotionError as error:
        raise MotionError(f"{path} {error}") from error
    adapter.load_state_dict(with_own_storage(tensors), assign=True)
    return adapter.eval().requires_grad_(False)
