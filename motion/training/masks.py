"""Which frames of a clip an encoder is shown in a step of its training. Pure functions of a random source.

Source: Guo et al. 2023, "SparseCtrl" (arXiv:2311.16933), section 3: frames are drawn at random. The patterns beside
"random" are what encoders are used for: an image to animate, two to go between, a storyboard, a clip to continue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from motion.errors import MotionError
from motion.fields.weighted import Weighted, Weights

Pattern = Callable[[int, np.random.Generator], list[int]]


def _every(frames: int, rng: np.random.Generator) -> list[int]:
    return list(range(0, frames, int(rng.integers(2, max(3, frames // 2 + 1)))))


def _prefix(frames: int, rng: np.random.Generator) -> list[int]:
    return list(range(int(rng.integers(1, max(2, frames)))))


def _random(frames: int, rng: np.random.Generator) -> list[int]:
    return sorted(rng.permutation(frames)[: int(rng.integers(1, frames + 1))].tolist())


PATTERNS: Mapping[str, Pattern] = MappingProxyType(
    {
        "first": lambda frames, rng: [0],
        "first-last": lambda frames, rng: sorted({0, frames - 1}),
        "every": _every,
        "prefix": _prefix,
        "random": _random,
    }
)
"""``every``: each k-th frame from the first on, k from 2 to half of the clip. ``prefix``: the first n, n from 1 to all
but one. ``random``: any n, n from 1 to all."""

MIXTURE = (
    Weighted("first", 0.25),
    Weighted("first-last", 0.15),
    Weighted("every", 0.15),
    Weighted("prefix", 0.1),
    Weighted("random", 0.35),
)
"""How often each pattern is drawn."""

_FIELD = Weights("masks", "Masks", "", MIXTURE, key="", group="", needs=(), detail="", low=0, high=1000)


def parse(text: str) -> tuple[Weighted, ...]:
    """``first:0.25, random:0.75`` as a mixture. Raises MotionError for other text and for unknown patterns."""
    mixture: tuple[Weighted, ...] = _FIELD.parse(text)
    return check(mixture)


def check(mixture: Sequence[Weighted]) -> tuple[Weighted, ...]:
    """The mixture; MotionError if it names what is no pattern, or gives none a weight."""
    unknown = next((name for name, _ in mixture if name not in PATTERNS), None)
    if unknown is not None or not sum(float(weight) for _, weight in mixture) > 0:
        told = "without any weight" if unknown is None else unknown
        raise MotionError(f"masks is {told}: give name:weight, ... of {', '.join(PATTERNS)}")
    return tuple(mixture)


def draw(mixture: Sequence[Weighted], frames: int, rng: np.random.Generator) -> list[int]:
    """The frames of a clip of ``frames`` with a key, by a pattern of ``mixture``: ascending, at least one."""
    weights = np.array([weight for _, weight in mixture])
    chosen = mixture[int(rng.choice(len(mixture), p=weights / weights.sum()))]
    return PATTERNS[chosen.name](frames, rng)
