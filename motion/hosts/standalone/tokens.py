"""CLIP's tokenizer, built from the files that ship with the project, and the layout of long prompts."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

FILES = Path(__file__).parents[1] / "data" / "clip"
CHUNK = 75
"""Tokens of the prompt in one pass of the text encoder, beside its start and end tokens."""


@lru_cache(maxsize=1)
def clip_tokenizer() -> Any:
    """CLIP ViT-L/14's tokenizer, from the files that ship with the project."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(FILES, local_files_only=True)


def chunks(tokenizer: Any, texts: list[str], pad: int) -> list[list[list[int]]]:
    """Token rows `[text][chunk][77]`: start, up to 75 tokens, end, then `pad`.

    Every text gets as many chunks as the longest needs (at least one), the missing ones empty, so that
    conditions of any length can stand in one batch.
    """
    ids = [tokenizer(text, add_special_tokens=False, verbose=False).input_ids for text in texts]
    count = max(1, *(-(-len(row) // CHUNK) for row in ids))
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id

    def row(tokens: list[int]) -> list[int]:
        return [start, *tokens, end, *[pad] * (CHUNK - len(tokens))]

    return [[row(tokens[i * CHUNK : (i + 1) * CHUNK]) for i in range(count)] for tokens in ids]
