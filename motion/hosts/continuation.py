"""A clip that goes on, or leads over to another one: its last frames are given, what follows is drawn."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from motion.errors import MotionError
from motion.fields.table import Size
from motion.hosts.controls import Pixels, fit_image
from motion.hosts.source import Source
from motion.settings.settings import Movement, Steering

GIVEN = 8
Drawn = TypeVar("Drawn", bound=Steering)


@dataclass(frozen=True)
class Continuation:
    """The clip, and how many of its last frames are ``given`` in each round of drawing."""

    clip: Source
    given: int = GIVEN
    length: int | None = None
    """Frames of the whole; it is drawn round by round until there are so many. None: one round."""
    onto: Source | None = None
    """The clip that it leads over to, of which as many first frames are given."""

    def __str__(self) -> str:
        """The names, and how many frames were given."""
        onto = "" if self.onto is None else f" to {self.onto}"
        return f"{self.clip}{onto}, {self.given} frames given"

    def check(self, settings: Movement) -> None:
        """Raise MotionError unless the settings leave frames to be drawn, in a clip that has an end."""
        given = self.given * (1 if self.onto is None else 2)
        if settings.frames <= given:
            raise MotionError(
                f"frames is {settings.frames}, and {given} are given: draw more at a time, or give fewer of the clip's"
            )
        if settings.loop != "none":
            raise MotionError(f"loop is {settings.loop}, and a clip that goes on has an end: set it to none")
        if self.onto is not None and self.length is not None:
            raise MotionError("a clip that leads over to another one is drawn once: leave out how long it is to be")

    def settings(self, clip: Drawn, encoder: bool) -> Drawn:
        """Those of a round: given frames are held, beside an ``encoder`` that is shown them, or by themselves."""
        if encoder:
            return replace(clip, hold_keys="noised") if clip.hold_keys == "off" else clip
        return replace(clip, hold_keys="clean" if clip.hold_keys == "off" else clip.hold_keys, key_scale=0.0)

    def rounds(self, frames: int) -> Iterator[int]:
        """How many new frames each round leaves, that draws ``frames``. Raises MotionError if there is no room."""
        new = frames - self.given * (1 if self.onto is None else 2)
        if self.length is None:
            yield new
            return
        have = self.have()
        if self.length <= have:
            raise MotionError(f"the clip has {have} frames and is to have {self.length}: give a number above {have}")
        for left in range(self.length - have, 0, -new):
            yield min(new, left)

    def have(self) -> int:
        """How many frames the clip has, with those of the one that it leads over to."""
        return sum(1 for clip in (self.clip, self.onto) if clip is not None for _ in clip.used())

    def end(self, size: Size) -> list[Pixels]:
        """Its last frames, which are given. Raises MotionError if it has fewer."""
        last = deque(self.clip.used(), self.given)
        return self._given((fit_image(frame, size, "crop") for frame in last), self.clip)

    def images(self, end: list[Pixels], frames: int, size: Size) -> dict[int, Pixels]:
        """The given pictures by their frames in a round that draws ``frames``, where the clip ends as ``end`` does."""
        images = dict(enumerate(end))
        if self.onto is not None:
            first = [frame for frame, _ in zip(self._shown(self.onto, size), range(self.given), strict=False)]
            images |= dict(enumerate(self._given(first, self.onto), frames - self.given))
        return images

    def whole(self, new: Iterable[Pixels], size: Size) -> Iterator[Pixels]:
        """The clip in the size that is drawn, the ``new`` frames behind it, and the one that it leads over to."""
        yield from self._shown(self.clip, size)
        yield from new
        if self.onto is not None:
            yield from self._shown(self.onto, size)

    def _shown(self, clip: Source, size: Size) -> Iterator[Pixels]:
        return (fit_image(frame, size, "crop") for frame in clip.used())

    def _given(self, frames: Iterable[Pixels], clip: Source) -> list[Pixels]:
        found = list(frames)
        if len(found) < self.given:
            raise MotionError(f"{clip.path} has {len(found)} frames, and {self.given} are to be given: give fewer")
        return found
