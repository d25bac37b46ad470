"""What of a prompt counts how much, and where it is broken off, by the WebUIs' grammar.

``(text)`` counts 1.1 times as much, ``[text]`` as much less, ``(text:1.3)`` 1.3 times; a backslash makes a bracket
text, and BREAK goes on in another pass of the text encoder. What the WebUIs change from step to step is refused.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import torch
from torch import Tensor

from motion.errors import MotionError

EMPHASIS = 1.1
_TOKEN = re.compile(
    r"""\\(?P<literal>[()\[\]\\]?) | :\s*(?P<weight>[+-]?(?:\d+\.?\d*|\.\d+))\s*\) | [()\[\]:] | [^\\()\[\]:]+""",
    re.VERBOSE,
)
_BREAK = re.compile(r"\s*\bBREAK\b\s*")
_ESCAPED = re.compile(r"\\.", re.DOTALL)
_BY_STEP = re.compile(r"\[[^\[\]]*(?:\|[^\[\]]*|:\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*)\]")
_EMBEDDING = re.compile(r"\bembedding:[^\s,]+")


class Span(NamedTuple):
    """A text and how much it counts."""

    text: str
    weight: float = 1.0


Prompt = list[list[Span]]
"""What stands between BREAKs, each as the spans of one weight that follow each other."""


def literal(text: str) -> Prompt:
    """A text in which nothing is grammar."""
    return [[Span(text)]]


def read_emphasis(prompt: str) -> Prompt:
    """The prompt by the grammar. Raises MotionError for what only a WebUI can draw."""
    _check(prompt)
    texts: list[str | None] = []
    """None is a BREAK."""
    weights: list[float] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def scale(kind: str, factor: float) -> None:
        start = opened[kind].pop()
        weights[start:] = [weight * factor for weight in weights[start:]]

    for token in _TOKEN.finditer(prompt):
        text = token[0]
        if text in opened:
            opened[text].append(len(texts))
        elif opened["("] and text.endswith(")") and token["literal"] is None:
            scale("(", float(token["weight"] or EMPHASIS))
        elif opened["["] and text == "]":
            scale("[", 1 / EMPHASIS)
        else:
            first, *others = [token["literal"]] if token["literal"] is not None else _BREAK.split(text)
            more = [first, *(part for other in others for part in (None, other))]
            texts += more
            weights += [1.0] * len(more)
    for kind, factor in (("(", EMPHASIS), ("[", 1 / EMPHASIS)):
        while opened[kind]:  # to the end of the prompt where nothing closes it
            scale(kind, factor)
    return _parts(texts, weights)


def _parts(texts: list[str | None], weights: list[float]) -> Prompt:
    """Neighbours of one weight are one span: the tokenizer sees them together."""
    parts: Prompt = [[]]
    for text, weight in zip(texts, weights, strict=True):
        part = parts[-1]
        if text is None:
            parts.append([])
        elif part and part[-1].weight == weight:
            part[-1] = Span(part[-1].text + text, weight)
        else:
            part.append(Span(text, weight))
    return parts


def _check(prompt: str) -> None:
    bare = _ESCAPED.sub("", prompt)
    if found := _BY_STEP.search(bare):
        raise MotionError(
            f"the prompt has {found[0]:.40}, which changes from step to step: only a WebUI draws that; give lines such "
            r"as 0: text for a change over frames, or \[ for a bracket"
        )
    if found := _EMBEDDING.search(bare):
        raise MotionError(f"the prompt has {found[0]:.40}: write the embedding's name alone, and give its file")


def emphasise(vectors: Tensor, weights: Tensor) -> Tensor:
    """Of each row of `vectors`, ``[rows, tokens, channels]``, the tokens times their `weights`, ``[rows, tokens]``.

    The mean of a row stays, as AUTOMATIC1111's "Original" emphasis has it; rows of weight 1 stay as they are.
    """
    changed = (weights != 1).any(dim=1)
    if not changed.any():
        return vectors
    scaled = vectors.float() * weights[..., None]
    scaled = scaled * (vectors.float().mean(dim=(1, 2), keepdim=True) / scaled.mean(dim=(1, 2), keepdim=True))
    return torch.where(changed[:, None, None], scaled.to(vectors.dtype), vectors)
