"""Files of one-shot tuning: our own, which hold what is tuned alone, and the authors' whole UNets."""

from __future__ import annotations

import re
from os import PathLike

import torch

from motion.errors import MotionError
from motion.models.one_shot import OneShotModel
from motion.weights.checkpoint import check, with_own_storage
from motion.weights.files import open_weights
from motion.weights.kinds import detect, title

KIND = "Tune-A-Video"
_TUNED = re.compile(r"(\w+\.[\w.]*transformer_blocks\.\d+)\.(?:attn[12]\.to_q|attn_temp|norm_temp)\.")


def load(path: str | PathLike[str]) -> OneShotModel:
    """The tuned layers in the file at ``path``, strictly loaded, on the CPU in the file's dtype.

    Of the authors' ``unet/diffusion_pytorch_model.bin``, which is a whole UNet of 798 tensors, what they did not tune
    is the image model's and left. Raises MotionError, naming the file, for one of another kind, and one that is
    incomplete.
    """
    tensors = open_weights(path).tensors
    kind = detect(tensors)
    if kind.name != KIND:
        raise MotionError(f"{path} is {title(kind)}, and no Tune-A-Video file: give one that one-shot tuning has made")
    found = {name: mark[1] for name in tensors if (mark := _TUNED.match(name))}
    state = {name: tensors[name] for name in found}
    try:
        channels = {
            block: tensors[name].shape[0] for name, block in found.items() if name.endswith("attn_temp.to_q.weight")
        }
        with torch.device("meta"):
            model = OneShotModel(channels)
        check(state, model.state_dict(), "tuned layers")
    except MotionError as error:
        raise MotionError(f"{path}: {error}") from error
    model.load_state_dict(with_own_storage(state), assign=True)
    return model.eval().requires_grad_(False)
