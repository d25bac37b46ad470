"""Words of a prompt that stand for learned vectors, while a text encoder reads it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from motion import patching
from motion.errors import MotionError
from motion.hosts.standalone.parts import TextEncoder
from motion.hosts.standalone.text.tokens import Words
from motion.weights.formats.embeddings import Embedding


@contextmanager
def learned_words(encoder: TextEncoder, index: int, embeddings: Sequence[Embedding]) -> Iterator[Words]:
    """Within, the table of the `index`-th `encoder` has the vectors of `embeddings`; on exit it is the one it was.

    Raises MotionError for an embedding that was made for another kind of checkpoint.
    """
    layer = encoder.model.get_input_embeddings()
    words: dict[tuple[int, ...], range] = {}
    tables = [layer.weight]
    for embedding in embeddings:
        vectors = embedding.vectors[index] if index < len(embedding.vectors) else None
        if vectors is None or vectors.shape[1] != layer.weight.shape[1]:
            raise MotionError(f"the embedding {embedding.name} does not fit this checkpoint: choose one for its base")
        ids = tuple(encoder.tokenizer(embedding.name, add_special_tokens=False, verbose=False).input_ids)
        if not ids:
            raise MotionError(f"no prompt can name the embedding {embedding.name!r}: give its file another name")
        first = sum(map(len, tables))
        words[ids] = range(first, first + len(vectors))
        tables.append(vectors.to(layer.weight))
    if not words:
        yield words
        return
    undo = patching.item(layer._parameters, "weight", nn.Parameter(torch.cat(tables), requires_grad=False))
    try:
        yield words
    finally:
        undo()
