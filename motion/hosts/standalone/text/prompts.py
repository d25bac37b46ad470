"""Prompts as the UNet sees them: text of any length through one or two CLIP encoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from einops import rearrange
from torch import Tensor, nn

from motion.errors import MotionError
from motion.hosts.standalone.parts import TextEncoder
from motion.hosts.standalone.text.emphasis import Prompt, emphasise, literal, read_emphasis
from motion.hosts.standalone.text.learned_words import learned_words
from motion.hosts.standalone.text.tokens import chunks
from motion.settings.lora_tags import without_tags
from motion.settings.prompts import INTERPOLATIONS, Mix, texts_of
from motion.weights.formats.embeddings import Embedding


@dataclass(frozen=True)
class Condition:
    """The conditioning of texts: `context` [texts, tokens, channels]; SDXL's `pooled` [texts, channels], else None."""

    context: Tensor
    pooled: Tensor | None


@dataclass(frozen=True)
class FrameConditioning:
    """The conditioning of the frames of each group: `mixes` of `texts`, whose conditions lie in the same order.

    The first `negatives` groups are negative prompts. Of SDXL's an empty one is all zeros, as in every host of it.
    """

    condition: Condition
    texts: list[str]
    mixes: Sequence[Sequence[Mix]]
    negatives: int = 0
    interpolation: str = "linear"
    weight: float = 1.0
    """How much the part of the prompt that this is counts beside those that AND joins to it."""
    joined: Sequence[FrameConditioning] = ()
    """These, each with the groups of a prompt alone."""

    @classmethod
    def of(
        cls,
        encoders: tuple[TextEncoder, ...],
        mixes: Sequence[Sequence[Mix]],
        negatives: int,
        clip_skip: int,
        interpolation: str,
        embeddings: Sequence[Embedding] = (),
        within: Callable[[Sequence[str]], AbstractContextManager[None]] = lambda texts: nullcontext(),
    ) -> FrameConditioning:
        """Encode every text once, without its tags and all to one length, in the scope that is made ``within``."""
        texts = texts_of(mix for group in mixes for mix in group)
        with within(texts):
            condition = encode(encoders, list(map(without_tags, texts)), clip_skip, read_emphasis, embeddings)
        return cls(condition, texts, mixes, negatives, interpolation)

    def apart(self) -> tuple[FrameConditioning, FrameConditioning]:
        """The negative groups by themselves, and the others."""
        at = self.negatives
        return replace(self, mixes=self.mixes[:at]), replace(self, mixes=self.mixes[at:], negatives=0)

    def first_again(self, groups: int) -> FrameConditioning:
        """With so many of the first groups, which are all negative prompts or none, in front once more."""
        return replace(self, mixes=[*self.mixes[:groups], *self.mixes], negatives=2 * self.negatives)

    def negative_rows(self, batch: int) -> list[bool]:
        """Of a batch's rows, which are of negative prompts."""
        return [row // (batch // len(self.mixes)) < self.negatives for row in range(batch)]

    def rows(self, frames: Sequence[int]) -> Condition:
        """The conditions of a batch's rows, given the frame in each; the groups lie one after the other."""
        each, negative = len(frames) // len(self.mixes), self.negative_rows(len(frames))
        places = [(self.mixes[row // each][frame], negative[row]) for row, frame in enumerate(frames)]
        made = {place: self._mixed(*place) for place in dict.fromkeys(places)}
        context = torch.stack([made[place].context for place in places])
        pooled = [vector for place in places if (vector := made[place].pooled) is not None]
        return Condition(context, torch.stack(pooled) if pooled else None)

    def _mixed(self, mix: Mix, negative: bool) -> Condition:
        interpolate = INTERPOLATIONS[self.interpolation]
        first, second = (self._vectors(text, negative) for text in mix[:2])
        pooled = None
        if first.pooled is not None and second.pooled is not None:
            pooled = interpolate(first.pooled, second.pooled, mix.weight)
        return Condition(interpolate(first.context, second.context, mix.weight), pooled)

    def _vectors(self, text: str, negative: bool) -> Condition:
        """A text's own vectors, [tokens, channels] and SDXL's [channels]."""
        at = self.texts.index(text)
        context, pooled = self.condition.context[at], self.condition.pooled
        if pooled is None:
            return Condition(context, None)
        if negative and not without_tags(text):
            return Condition(torch.zeros_like(context), torch.zeros_like(pooled[at]))
        return Condition(context, pooled[at])


def encode(
    encoders: tuple[TextEncoder, ...],
    texts: Sequence[str],
    clip_skip: int = 1,
    grammar: Callable[[str], Prompt] = literal,
    embeddings: Sequence[Embedding] = (),
) -> Condition:
    """The condition of each text as the `grammar` reads it, in which `embeddings` are words, all of one length.

    SD1.5 reads the `clip_skip`-th last layer under the final norm; SDXL the second last of both encoders, and the
    pooled text of the second. Chunks of 75 tokens are encoded apart and laid side by side; the pooled text is the
    first chunk's. Raises MotionError if the encoder has fewer than `clip_skip` layers, and where `learned_words` does.
    """
    hidden, pooled, prompts = [], None, list(map(grammar, texts))
    for index, encoder in enumerate(encoders):
        with learned_words(encoder, index, embeddings) as words:
            rows = [row for text in chunks(encoder.tokenizer, prompts, encoder.pad, words) for row in text]
            ids = torch.tensor([row.ids for row in rows], device=encoder.model.device)
            output = encoder.model(ids, output_hidden_states=True)
        weights = torch.tensor([row.weights for row in rows], device=encoder.model.device)
        state = _layer(encoder, output, clip_skip) if len(encoders) == 1 else output.hidden_states[-2]
        hidden.append(rearrange(emphasise(state, weights), "(n chunks) tokens c -> n (chunks tokens) c", n=len(texts)))
        if hasattr(output, "text_embeds"):
            pooled = rearrange(output.text_embeds, "(n chunks) c -> n chunks c", n=len(texts))[:, 0]
    return Condition(torch.cat(hidden, dim=-1), pooled)


def _layer(encoder: TextEncoder, output: Any, clip_skip: int) -> Tensor:
    layers = encoder.model.config.num_hidden_layers
    if clip_skip > layers:
        raise MotionError(f"clip skip is {clip_skip}: this checkpoint's text encoder has {layers} layers")
    last: Tensor = output.last_hidden_state
    norm: nn.Module = getattr(encoder.model, "text_model", encoder.model).final_layer_norm
    return last if clip_skip == 1 else cast(Tensor, norm(output.hidden_states[-clip_skip]))
