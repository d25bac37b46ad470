"""CLIP's tokenizer, built from the files that ship with the project, and the layout of long prompts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from motion.hosts.standalone.emphasis import Prompt

FILES = Path(__file__).parents[1] / "data" / "clip"
CHUNK = 75
"""Tokens of the prompt in one pass of the text encoder, beside its start and end tokens."""


@lru_cache(maxsize=1)
def clip_tokenizer() -> Any:
    """CLIP ViT-L/14's tokenizer, from the files that ship with the project."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(FILES, local_files_only=True)


class Row(NamedTuple):
    """What a text encoder reads in one pass: 77 token ids, and how much each counts."""

    ids: list[int]
    weights: list[float]


def chunks(tokenizer: Any, prompts: Sequence[Prompt], pad: int) -> list[list[Row]]:
    """The rows of each prompt: start, up to 75 tokens, end, then `pad`.

    Every prompt gets as many rows as the longest needs (at least one), the missing ones empty, so that conditions of
    any length can stand in one batch. What stands behind a BREAK begins in a row of its own.
    """
    cut = [_cut(tokenizer, prompt) for prompt in prompts]
    count = max(map(len, cut))
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id

    def row(tokens: list[tuple[int, float]]) -> Row:
        ids, weights = [token for token, _ in tokens], [weight for _, weight in tokens]
        rest = CHUNK - len(tokens)
        return Row([start, *ids, end, *[pad] * rest], [1.0, *weights, 1.0, *[1.0] * rest])

    return [[row(tokens) for tokens in [*rows, *[[]] * (count - len(rows))]] for rows in cut]


def _cut(tokenizer: Any, prompt: Prompt) -> list[list[tuple[int, float]]]:
    """The tokens of the prompt with their weights, at most 75 of them together, at least one time none."""
    rows = []
    for part in prompt:
        tokens = [
            (token, span.weight)
            for span in part
            for token in tokenizer(span.text, add_special_tokens=False, verbose=False).input_ids
        ]
        rows += [tokens[at : at + CHUNK] for at in range(0, max(1, len(tokens)), CHUNK)]
    return rows if len(rows) == 1 or rows[-1] else rows[:-1]
