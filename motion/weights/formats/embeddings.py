"""Textual inversion files: vectors that a word of a prompt stands for (Gal et al. 2022, arXiv:2208.01618).

AUTOMATIC1111, diffusers and kohya name them each in their way; SDXL's files have vectors for both text encoders. A
DreamArtist (Dong et al. 2022, arXiv:2211.11337) is two such files, one of them for the negative prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from torch import Tensor

from motion.errors import MotionError
from motion.weights.files import open_weights
from motion.weights.kinds import REFUSALS, TEXTUAL_INVERSION, detect

BOTH = ("clip_l", "clip_g")
"""SDXL's first text encoder and its second."""
MOST = 75
"""Vectors that a text encoder reads in one pass."""


@dataclass(frozen=True)
class Embedding:
    """A word and its vectors for each text encoder, ``[vectors, channels]`` in float32; the word is the file's name."""

    name: str
    vectors: tuple[Tensor, ...]


def open_embedding(path: str | PathLike[str]) -> Embedding:
    """The embedding at `path`. Raises MotionError for other kinds of files and for several embeddings in one."""
    tensors = open_weights(path).tensors
    kind = detect(tensors).name
    if kind != TEXTUAL_INVERSION:
        title = REFUSALS.get(kind, ("a motion module",))[0]
        raise MotionError(f"{path} is {title}, and no textual inversion embedding: choose another file")
    names = BOTH if set(BOTH) == tensors.keys() else tuple(tensors)
    if len(names) > 1 and names != BOTH:
        raise MotionError(f"{path} holds several embeddings ({', '.join(names)[:80]}): save them one by one")
    if any(tensors[name].ndim not in (1, 2) or not tensors[name].numel() for name in names):
        raise MotionError(f"{path} has vectors of odd shapes: get the original file")
    vectors = tuple(tensors[name].float().reshape(-1, tensors[name].shape[-1]) for name in names)
    if len({len(part) for part in vectors}) > 1 or len(vectors[0]) > MOST:
        counts = " and ".join(str(len(part)) for part in vectors)
        raise MotionError(f"{path} has {counts} vectors: give a file of at most {MOST}, as many for each text encoder")
    return Embedding(Path(path).stem, vectors)
