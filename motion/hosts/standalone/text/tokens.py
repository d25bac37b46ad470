"""CLIP's tokenizer, built from the files that ship with the project, and the layout of long prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from motion.hosts.standalone.text.emphasis import Prompt

FILES = Path(__file__).parents[2] / "data" / "clip"
CHUNK = 75
"""Tokens of the prompt in one pass of the text encoder, beside its start and end tokens."""

Words = Mapping[tuple[int, ...], Sequence[int]]
"""By the tokens of a word those of the learned vectors that it stands for."""


@lru_cache(maxsize=1)
def clip_tokenizer() -> Any:
    """CLIP ViT-L/14's tokenizer, from the files that ship with the project."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(FILES, local_files_only=True)


class Row(NamedTuple):
    """What a text encoder reads in one pass: 77 token ids, and how much each counts."""

    ids: list[int]
    weights: list[float]


def chunks(tokenizer: Any, prompts: Sequence[Prompt], pad: int, words: Words = MappingProxyType({})) -> list[list[Row]]:
    """The rows of each prompt: start, up to 75 tokens, end, then `pad`.

    Every prompt gets as many rows as the longest needs (at least one), the missing ones empty, so that conditions of
    any length can stand in one batch. What stands behind a BREAK begins in a row of its own, and the tokens of one of
    `words` stay in one row.
    """
    cut = [_cut(tokenizer, prompt, words) for prompt in prompts]
    count = max(map(len, cut))
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id

    def row(tokens: list[tuple[int, float]]) -> Row:
        ids, weights = [token for token, _ in tokens], [weight for _, weight in tokens]
        rest = CHUNK - len(tokens)
        return Row([start, *ids, end, *[pad] * rest], [1.0, *weights, 1.0, *[1.0] * rest])

    return [[row(tokens) for tokens in [*rows, *[[]] * (count - len(rows))]] for rows in cut]


def _cut(tokenizer: Any, prompt: Prompt, words: Words) -> list[list[tuple[int, float]]]:
    """The tokens of the prompt with their weights, at most 75 of them together, at least one time none."""
    rows: list[list[tuple[int, float]]] = []
    for part in prompt:
        rows.append([])
        for span in part:
            for piece in _pieces(tokenizer(span.text, add_special_tokens=False, verbose=False).input_ids, words):
                if len(rows[-1]) + len(piece) > CHUNK:
                    rows.append([])
                rows[-1] += [(token, span.weight) for token in piece]
    return rows if len(rows) == 1 or rows[-1] else rows[:-1]


def _pieces(ids: Sequence[int], words: Words) -> Iterator[Sequence[int]]:
    """The tokens one by one, but where they spell one of `words`, of which the longest counts, what that stands for."""
    longest = sorted(words, key=len, reverse=True)
    at = 0
    while at < len(ids):
        word = next((word for word in longest if tuple(ids[at : at + len(word)]) == word), None)
        yield words[word] if word else ids[at : at + 1]
        at += len(word or (0,))
