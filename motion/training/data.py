"""What the recipes learn from: captioned clips as latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Tokenize = Callable[[Sequence[str]], Tensor]
"""Captions -> token ids, int64 ``[n, 77]``."""


@dataclass(frozen=True)
class LatentClips:
    """Clips as scaled latents ``[clips, frames, 4, h, w]`` with the tokens of their captions.

    ``tokens`` is ``[clips, captions, 77]``: a clip may have several captions, one of which is drawn each time;
    ``empty`` is the empty caption's, ``[77]``.
    """

    latents: Tensor
    tokens: Tensor
    empty: Tensor

    def stills(self, rng: np.random.Generator, count: int, text_drop: float) -> tuple[Tensor, Tensor]:
        """Random frames ``[count, 4, h, w]`` and tokens ``[count, 77]``, some of them the empty caption's."""
        chosen, tokens = self.draw(rng, count, text_drop)
        frames = torch.from_numpy(rng.integers(0, self.latents.shape[1], count))
        return self.latents[chosen, frames], tokens

    def clips(self, rng: np.random.Generator, count: int, text_drop: float) -> tuple[Tensor, Tensor]:
        """Random clips ``[count, frames, 4, h, w]`` and one caption's tokens each, ``[count, 77]``."""
        chosen, tokens = self.draw(rng, count, text_drop)
        return self.latents[chosen], tokens

    def draw(self, rng: np.random.Generator, count: int, text_drop: float) -> tuple[Tensor, Tensor]:
        """The numbers of random clips ``[count]`` and one caption's tokens each, ``[count, 77]``."""
        chosen = torch.from_numpy(rng.integers(0, len(self.latents), count))
        captions = torch.from_numpy(rng.integers(0, self.tokens.shape[1], count))
        dropped = torch.from_numpy(rng.random(count) < text_drop)
        return chosen, torch.where(dropped[:, None], self.empty, self.tokens[chosen, captions])
