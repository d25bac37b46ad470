"""What the frames of clips are told: their prompts and negative prompts encoded, in the parts that AND joins.

`a forest AND a lake :0.6` is two prompts that each are predicted by themselves: what they differ by from the negative
prompt is added up, by their weights (Liu et al. 2022, "Composable Diffusion", arXiv:2206.01714).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from motion.errors import MotionError
from motion.hosts.standalone.networks.lora_weights import named_by_texts
from motion.hosts.standalone.networks.networks import Networks
from motion.hosts.standalone.parts import Parts
from motion.hosts.standalone.text.prompts import FrameConditioning
from motion.settings.lora_tags import tags_alone, without_tags
from motion.settings.prompts import Mix, texts_of, travel, with_tags_of
from motion.settings.settings import Clip

_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"(.*?)(?:\s*:\s*([-+]?(?:\d+\.?\d*|\.\d+)))?\s*", re.DOTALL | re.ASCII)


class Part(NamedTuple):
    """A part of a prompt and how much it counts."""

    text: str
    weight: float = 1.0


def encode_prompts(parts: Parts, clips: Sequence[Clip], frames: int, networks: Networks) -> FrameConditioning:
    """The conditioning of each of ``frames`` to draw, of those beyond the clips as the last one; unguided groups first.

    Raises MotionError for prompts whose texts differ in their parts, and for region masks of more or fewer.
    """
    asked, closed, count = clips[0].frames, clips[0].loop == "closed", len(clips)
    by_text = {lora.path.stem for lora in networks.varying}

    def told(text: str) -> list[Mix]:
        return travel(without_tags(text, but=by_text), asked, closed, frames)

    weights, groups = _split([told(clip.prompt) for clip in clips])
    _check_regions(networks, len(weights), clips[0].prompt)
    unguided = [with_tags_of(told(clip.prompt), told(clip.negative)) for clip in clips]
    unguided = unguided if clips[0].cfg > 1 or len(weights) > 1 else []
    skip, how, within = clips[0].clip_skip, clips[0].travel, partial(named_by_texts, parts, networks.varying)
    all_mixes = [*unguided, *(group for of_part in groups for group in of_part)]
    encoded = FrameConditioning.of(parts.encoders, all_mixes, len(unguided), skip, how, networks.embeddings, within)
    first = len(unguided) + count
    further = [
        replace(encoded, mixes=mixes, negatives=0, weight=weight)
        for mixes, weight in zip(groups[1:], weights[1:], strict=True)
    ]
    return replace(encoded, mixes=all_mixes[:first], weight=weights[0], joined=further)


def split(text: str) -> list[Part]:
    """The parts of a text; LoRAs that it names count in all of them."""
    tags = tags_alone(text)
    found = [_WEIGHT.fullmatch(part) for part in _AND.split(without_tags(text))]
    return [Part(match[1] + tags, float(match[2] or 1)) for match in found if match]


def _split(clips: Sequence[Sequence[Mix]]) -> tuple[list[float], list[list[list[Mix]]]]:
    """The weights of the parts, and for each part what the frames of each clip are told.

    A single text is its own only part, whatever it ends in.
    """
    texts = texts_of(mix for mixes in clips for mix in mixes)
    if not any(map(_AND.search, map(without_tags, texts))):
        return [1.0], [[list(mixes) for mixes in clips]]
    parts = {text: split(text) for text in texts}
    kinds = list(dict.fromkeys(tuple(part.weight for part in found) for found in parts.values()))
    if len(kinds) > 1:
        said = " and ".join("[" + ", ".join(f"{weight:g}" for weight in kind) + "]" for kind in kinds[:2])
        raise MotionError(
            f"the prompt has parts joined by AND with weights {said}: give each key frame and each clip as many parts, "
            "with the same weights"
        )

    def of_part(number: int, mix: Mix) -> Mix:
        return mix._replace(first=parts[mix.first][number].text, second=parts[mix.second][number].text)

    groups = [[[of_part(number, mix) for mix in mixes] for mixes in clips] for number in range(len(kinds[0]))]
    return list(kinds[0]), groups


def _check_regions(networks: Networks, parts: int, prompt: str) -> None:
    masks = parts if networks.regions is None else len(networks.regions.masks)
    if masks != parts:
        raise MotionError(
            f"region masks are {masks} and AND joins {parts} parts in the prompt {prompt!r:.60}: give a mask for each, "
            "or an empty name for everywhere"
        )
