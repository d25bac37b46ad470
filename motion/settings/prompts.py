"""Prompt travel: a prompt that changes over the frames of a clip.

    a photo of a forest,
    0: spring
    12-20: summer
    -1: winter
    best quality

Lines of ``frame: text`` are key frames, one or a range of them; a negative one counts from the end (-1: the last). The
lines above them stand in front of every key frame's text and those below behind it. Pure functions over text and
tensors; the syntax is sd-webui-animatediff's, with ranges and negative numbers as ComfyUI-AnimateDiff-Evolved has them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from motion.errors import MotionError

_LINE = re.compile(r"\s*(-?\d+)(?:\s*-\s*(-?\d+))?\s*:(.*)")

PARALLEL = 0.9995
"""Cosine from which two texts' vectors are taken as parallel, so that between them goes a straight line."""


class Mix(NamedTuple):
    """What a frame is told: the text ``first``, and ``weight`` (0 to 1) of the way to ``second``."""

    first: str
    second: str
    weight: float = 0.0


def travel(prompt: str, frames: int, closed: bool = False, drawn: int | None = None) -> list[Mix]:
    """What each of ``frames`` frames is told by ``prompt``.

    Before the first key frame its text holds, and behind the last one that one's; in a ``closed`` loop the last leads
    into the first again. A prompt without key frames is told to all frames. Of frames that are ``drawn`` besides, each
    is told what the clip's last one is. Raises MotionError naming a key frame that is not in the clip.
    """
    keys = key_frames(prompt, frames) or {0: prompt}
    places = sorted(keys)
    around = [places[-1] - frames, *places, places[0] + frames]
    mixes = [_between(keys, around, frame, frames, closed) for frame in range(frames)]
    return mixes + mixes[-1:] * ((drawn or frames) - frames)


def texts_of(mixes: Iterable[Mix]) -> list[str]:
    """All that is told, each text once."""
    return list(dict.fromkeys(text for mix in mixes for text in mix[:2]))


def travels(prompt: str) -> bool:
    """Whether the prompt has key frames."""
    return any(map(_LINE.fullmatch, prompt.splitlines()))


def key_frames(prompt: str, frames: int) -> dict[int, str]:
    """The whole text of each key frame, by frame number; empty if there are none."""
    lines = prompt.splitlines()
    matches = [_LINE.fullmatch(line) for line in lines]
    numbers = [number for number, match in enumerate(matches) if match]
    if not numbers:
        return {}
    head, tail = lines[: numbers[0]], lines[numbers[-1] + 1 :]
    keys: dict[int, str] = {}
    for match in filter(None, matches):
        first = _frame(match[1], frames)
        last = _frame(match[2], frames) if match[2] else first
        if last < first:
            raise MotionError(f"the prompt's frames {match[1]} to {match[2]} go backwards: give the first one first")
        text = _joined([*head, match[3], *tail])
        keys |= {frame: text for frame in {first, last}}
    return keys


def _joined(parts: list[str]) -> str:
    return ", ".join(bare for part in parts if (bare := part.strip().strip(",").strip()))


def _frame(text: str, frames: int) -> int:
    number = int(text)
    if not -frames <= number < frames:
        raise MotionError(f"the prompt has a key frame {number}: the clip's are 0 to {frames - 1}, or -{frames} to -1")
    return number % frames


def _between(keys: dict[int, str], around: list[int], frame: int, frames: int, closed: bool) -> Mix:
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
    cosine = torch.nn.functional.cosine_similarity(first.flatten().float(), second.flatten().float(), dim=0)
    if weight in (0, 1) or cosine.abs() >= PARALLEL:
        return linear(first, second, weight)
    angle = cosine.acos()
    of_first, of_second = ((1 - weight) * angle).sin() / angle.sin(), (weight * angle).sin() / angle.sin()
    return (first * of_first + second * of_second).to(first.dtype)


INTERPOLATIONS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {"linear": linear, "spherical": spherical}
