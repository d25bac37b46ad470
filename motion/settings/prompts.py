"""Prompt travel: a prompt that changes over the frames of a clip.

`prompt_keys` says which lines are key frames; between two of them a frame is told a mix of both. Pure functions over
text and tensors; the syntax is sd-webui-animatediff's, with ranges and negative numbers as ComfyUI-AnimateDiff-Evolved
has them. A word whose emphasis is a curve over frames, ``(storm:0: 0.6, -1: 1.4)``, is told each frame at its own.
LoRAs count in each frame as much as the texts that name them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from motion.errors import MotionError
from motion.fields.curve import Curve, Key, Track, Value, short
from motion.fields.curve_text import read_curve
from motion.settings import lora_tags
from motion.settings.prompt_keys import key_frames, travels

PARALLEL = 0.9995
"""Cosine from which two texts' vectors are taken as parallel, so that between them goes a straight line."""

_KEY = r"-?\d{1,6}(?:\s*-\s*-?\d{1,6})?\s*:\s*[-+]?(?:\d+\.?\d*|\.\d+)"
_CURVE = re.compile(rf":\s*(?P<curve>(?:smooth\s+)?{_KEY}(?:\s*,\s*{_KEY})*)\s*\)", re.ASCII)
"""The end of an emphasis in parentheses."""


class Mix(NamedTuple):
    """What a frame is told: the text ``first``, and ``weight`` (0 to 1) of the way to ``second``."""

    first: str
    second: str
    weight: float = 0.0


def travel(prompt: str, frames: int, closed: bool = False, drawn: int | None = None) -> list[Mix]:
    """What each of ``frames`` frames is told by ``prompt``.

    Before the first key frame its text holds, and behind the last one that one's; in a ``closed`` loop the last leads
    into the first again. A prompt that does not travel is told to all frames. Of frames that are ``drawn`` besides,
    each is told what the clip's last one is. Raises MotionError where `key_frames` does, and for keys of a word's
    emphasis, or of a LoRA's weight, that are not in the clip.
    """
    mixes = mix_keys(key_frames(prompt, frames) or {0: prompt}, frames, closed, drawn)
    if not has_curves(prompt):
        return mixes

    def told(text: str, frame: int) -> str:
        at = min(frame, frames - 1), frames
        return lora_tags.with_numbers(emphasised(text, *at), *at)

    return [Mix(told(mix.first, at), told(mix.second, at), mix.weight) for at, mix in enumerate(mixes)]


def varies(prompt: str, frames: int) -> bool:
    """Whether ``prompt`` tells the frames of a clip of ``frames`` not all the same."""
    return has_curves(prompt) or travels(prompt, frames)


def has_curves(prompt: str) -> bool:
    """Whether the emphasis of a word, or the weight of a LoRA, is a curve."""
    return _CURVE.search(prompt) is not None or lora_tags.has_curves(prompt)


def emphasised(text: str, frame: int, frames: int) -> str:
    """``text`` as one of ``frames`` is told it, with a number in the place of each curve, to a hundredth."""

    def number(found: re.Match[str]) -> str:
        try:
            value = read_curve(found["curve"]).at(frames)[frame]
        except MotionError as error:
            raise MotionError(f"the prompt's emphasis {found['curve']:.80}: {error}") from error
        return f":{short(round(value, 2))})"

    return _CURVE.sub(number, text)


def frame_loras(prompt: str, frames: int, closed: bool = False) -> dict[str, Value]:
    """The LoRAs that ``prompt`` gives a curve, or names in some of its lines alone or at other weights, by their names,
    with what they count in the UNet: curves over ``frames``, or numbers where they come to one.

    Where a text does not name one it counts 0, between two key frames the mix. Raises MotionError where `key_frames`
    and `lora_tags.read_tag_text` do, and for keys that are not in the clip.
    """
    mixes = mix_keys(key_frames(prompt, frames) or {0: prompt}, frames, closed)
    written = {text: lora_tags.tag_texts(text) for text in texts_of(mixes)}
    found: dict[str, Value] = {}
    for name in dict.fromkeys(name for tags in written.values() for name in tags):
        tags = {text: tags.get(name) for text, tags in written.items()}
        if len({*tags.values()}) > 1 or any(tag and lora_tags.has_curve(tag) for tag in tags.values()):
            read = {text: None if tag is None else lora_tags.read_tag_text(tag) for text, tag in tags.items()}
            found[name] = _along(mixes, read, name)
    return found


def _along(mixes: Sequence[Mix], tags: Mapping[str, lora_tags.LoraTag | None], name: str) -> Value:
    """What texts say by their ``tags``, mixed as they are: a number if it is one for the text encoders, too."""
    try:
        counts = {text: read_curve(tag.unet if tag else 0.0).at(len(mixes)) for text, tag in tags.items()}
    except MotionError as error:
        raise MotionError(f"the weight of the LoRA {name:.80} in the prompt: {error}") from error
    ends = [(counts[mix.first][frame], counts[mix.second][frame]) for frame, mix in enumerate(mixes)]
    values = [first + (second - first) * mix.weight for (first, second), mix in zip(ends, mixes, strict=True)]
    if len({*values}) == len({tag and tag.text for tag in tags.values()}) == 1:
        return values[0]
    return str(Curve((Track(tuple(Key(frame, frame, value) for frame, value in enumerate(values))),)))


def with_tags_of(prompt: Sequence[Mix], unguided: Sequence[Mix], mark: str = "") -> list[Mix]:
    """What a negative prompt tells the frames, with the LoRAs that the ``prompt`` names there behind a ``mark``.

    Between two texts of its own it is told as it is.
    """

    def tagged(told: Mix, other: Mix) -> Mix:
        first, second = map(lora_tags.tags_alone, told[:2])
        if not (first or second) or other.first != other.second:
            return other
        return Mix(other.first + mark + first, other.first + mark + second, told.weight if first != second else 0.0)

    return list(map(tagged, prompt, unguided))


def mix_keys(keys: Mapping[int, str], frames: int, closed: bool = False, drawn: int | None = None) -> list[Mix]:
    """`travel` between what stands at the frames ``keys``."""
    places = sorted(keys)
    around = [places[-1] - frames, *places, places[0] + frames]
    mixes = [_between(keys, around, frame, frames, closed) for frame in range(frames)]
    return mixes + mixes[-1:] * ((drawn or frames) - frames)


def texts_of(mixes: Iterable[Mix]) -> list[str]:
    """All that is told, each text once."""
    return list(dict.fromkeys(text for mix in mixes for text in mix[:2]))


def _between(keys: Mapping[int, str], around: list[int], frame: int, frames: int, closed: bool) -> Mix:
    """``around``: the key frames with the last one a loop earlier in front and the first one a loop later behind."""
    before = max(place for place in around if place <= frame)
    after = min(place for place in around if place >= frame)
    first, second = keys[before % frames], keys[after % frames]
    if before < 0 and not closed:
        return Mix(second, second)
    if first == second or before == after or (after >= frames and not closed):
        return Mix(first, first)
    return Mix(first, second, (frame - before) / (after - before))


def linear(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """``(1 - weight) first + weight second``, exactly the one or the other at 0 and at 1."""
    if weight in (0, 1):
        return second if weight else first
    return torch.lerp(first, second, weight)


def spherical(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """From ``first`` to ``second`` along the great circle, both flattened (Shoemake 1985); nearly
    parallel ones linearly."""
    straight = linear(first, second, weight)
    if weight in (0, 1):
        return straight
    cosine = torch.nn.functional.cosine_similarity(first.flatten().float(), second.flatten().float(), dim=0)
    angle = cosine.acos()
    of_first, of_second = ((1 - weight) * angle).sin() / angle.sin(), (weight * angle).sin() / angle.sin()
    along = (first * of_first + second * of_second).to(first.dtype)
    return torch.where(cosine.abs() >= PARALLEL, straight, along)  # asked on the device, which is not waited for


INTERPOLATIONS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {"linear": linear, "spherical": spherical}
