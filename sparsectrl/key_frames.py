"""At which frames the key images stand. Pure functions of numbers."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from motion.errors import MotionError

SPREADS = ("uniform", "start", "center", "end")
"""Ways to spread images over a clip without naming frames."""


def parse(text: str, frames: int, images: int = 1) -> list[int]:
    """The frames of ``images`` key images in a clip of ``frames``, each from 0 to ``frames - 1``, as ``text`` says.

    ``"0,8,-1"``: these frames, in the order of the images; negative ones count from the end. Or one of `SPREADS`: at
    equal distances over the clip from end to end ("uniform"), from its first frame on with the last part free
    ("start"), up to its last with the first part free ("end"), or with both ends free ("center").

    Raises MotionError, naming it, for what is no frame, is out of range, stands twice, or has no image.
    """
    if text.strip() in SPREADS:
        return spread(text.strip(), images, frames)
    numbers = [part.strip() for part in text.split(",")]
    wrong = next((number for number in numbers if not re.fullmatch(r"[+-]?\d{1,9}", number, re.ASCII)), None)
    if wrong is not None:
        raise MotionError(f"{wrong!r} is no frame: give numbers such as 0,8,-1, or one of {', '.join(SPREADS)}")
    if len(numbers) != images:
        raise MotionError(f"{text} names {len(numbers)} frames for {images} images: give as many frames as images")
    return places([int(number) for number in numbers], frames)


def places(numbers: Sequence[int], frames: int) -> list[int]:
    """``numbers`` from 0 to ``frames - 1``, negative ones counted from the end.

    Raises MotionError for the first that is out of range or stands for the same frame as one before it.
    """
    seen: dict[int, int] = {}
    for number in numbers:
        if not -frames <= number < frames:
            raise MotionError(f"key frame {number} is out of range: the clip has frames 0 to {frames - 1}")
        place = number % frames
        if place in seen:
            both = f"{number} stands twice" if seen[place] == number else f"{seen[place]} and {number} are the same"
            raise MotionError(f"key frame {both} in a clip of {frames} frames: give each frame one image")
        seen[place] = number
    return list(seen)


def spread(way: str, images: int, frames: int) -> list[int]:
    """The frames of ``images`` over a clip of ``frames`` in one of the ways of `SPREADS`, ascending and different.

    Of ``k`` equally spaced points from the first frame to the last, rounded down, "uniform" takes all of ``images``
    ones, "start" the first of ``images + 1``, "end" the last, "center" the inner of ``images + 2``; for "center", a
    clip with less than three frames more than images is filled from its start. Raises MotionError for too many images.
    """
    if not 1 <= images <= frames:
        raise MotionError(f"{images} key images do not fit {frames} frames: give 1 to {frames}")
    if way == "center" and frames - images < 3:
        way = "start"
    if images == frames:
        return list(range(frames))
    before = {"uniform": 0, "start": 0, "center": 1, "end": 1}[way]
    after = {"uniform": 0, "start": 1, "center": 1, "end": 0}[way]
    gaps = max(before + images - 1 + after, 1)
    return [(before + image) * (frames - 1) // gaps for image in range(images)]


def sources(keys: Collection[int], window: Sequence[int], nearest: bool = True) -> list[int]:
    """For each frame of ``window`` the frame of the clip whose condition it gets: its own.

    If none of ``keys`` lies in the window and ``nearest``, its first frame gets the key nearest to that, or its last
    frame the key nearest to that: whichever is nearer, both where they are equally near.
    """
    taken = list(window)
    if not nearest or not keys or set(keys) & set(window):
        return taken
    ends = {place: min(keys, key=lambda key: abs(key - window[place])) for place in (0, -1)}
    distances = {place: abs(key - window[place]) for place, key in ends.items()}
    for place, key in ends.items():
        if distances[place] == min(distances.values()):
            taken[place] = key
    return taken
