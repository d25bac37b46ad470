"""Which frames of a long clip are taken together in a step, and how overlapping windows are averaged.

Pure functions over frame numbers, without torch. A schedule cuts a clip into windows of equal length; every frame is
in at least one of them in every step. The ideas are the field's own: uniform windows at several strides
(sd-webui-animatediff, ComfyUI-AnimateDiff-Evolved), composite (animatediff-cli-prompt-travel), pyramid weights (the
same, diffusers' FreeNoise). The bounds are ours: no peer covers every frame at every overlap, stride and length.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from motion.errors import MotionError
from motion.models.motion.positions import Positions
from motion.sampling.fuses import FUSES

if TYPE_CHECKING:
    from motion.models.motion.architecture import Architecture
    from motion.settings.settings import Movement

Window = tuple[int, ...]
"""Frame numbers in the order in which the temporal layers see them; none twice."""

GOLDEN = 0.6180339887498949
"""Fraction of the way that windows go on from step to step: the multiples of it spread evenly, however many there are,
so that no two frames are at a border more often than others."""

COMPOSED = 0.7
"""Noise time (0 to 1) down to which the composite schedule takes frames at random: what moves where is settled there.
Chosen on the sprite world, in which shapes then cross a long clip once; at 0.9 they stop halfway."""

SHARED = 0.3
"""Noise time down to which the composite schedule takes frames evenly apart: shades are settled there. Chosen on the
sprite world, where going down to 0.1 was no better."""


HIERARCHICAL = "hierarchical"
"""The schedule whose windows differ in length, and read frames of each other; for clips without a motion module."""


@dataclass(frozen=True)
class Windows:
    """How a clip of ``frames`` is cut, by any values from 1 on (``overlap`` from 0 on).

    ``length``: frames of a window; None, or more than there are: the whole clip is one window.
    ``overlap``: frames that neighbouring windows share at least, at most all but one.
    ``stride``: levels of distance between the frames of a window: 1, and for each level more twice as much, as long as
    such a window fits into the clip.
    ``closed``: the clip is a loop, and windows lead from the last frame into the first.
    ``engine``: "denoiser": the UNet runs for each window and its predictions are averaged; "attention": only the
    temporal layers' attention is cut.
    ``until``: the part of the steps after which the schedule ``then`` holds.
    ``view_length``: frames of a window that its temporal attention sees together, in views that share ``view_overlap``
    and lie and are averaged as windows are (engine "denoiser"); 0, or more than there are: all of them.
    """

    frames: int
    length: int | None = None
    overlap: int = 4
    stride: int = 1
    schedule: str = "uniform"
    fuse: str = "pyramid"
    closed: bool = False
    engine: str = "denoiser"
    until: float = 1.0
    then: str = "static"
    view_length: int = 0
    view_overlap: int = 4

    @property
    def size(self) -> int:
        """Frames in each window; of the hierarchical schedule, at most."""
        length = min(self.length or self.frames, self.frames)
        return max(length, len(self.key_frames)) if self.hierarchical else length

    @property
    def hierarchical(self) -> bool:
        """Whether the windows are key frames all over the clip, and what lies between two of them at a time (Zhang et
        al. 2023, "ControlVideo", arXiv:2305.13077, section 3.4)."""
        return self.schedule == HIERARCHICAL

    @property
    def key_frames(self) -> Window:
        """Of the hierarchical schedule: ``length`` frames from one to the next, both counted, and the last frame."""
        apart = max(min(self.length or self.frames, self.frames) - 1, 2)
        return (*range(0, self.frames - 1, apart), self.frames - 1)

    def ends(self, window: Window) -> Window:
        """Of a window between two key frames, these; of the key frames' own, none."""
        return () if window[0] in self.key_frames else (window[0] - 1, window[-1] + 1)

    @property
    def cut(self) -> bool:
        """Whether there is more than one window."""
        return self.size < self.frames

    @property
    def reach(self) -> int:
        """Frames that temporal layers see together at most."""
        views = None if self.cut and self.engine == "attention" else self.views(self.size)
        return self.size if views is None else views.size

    @property
    def apart(self) -> bool:
        """Whether the UNet runs for each of several windows."""
        return self.cut and self.engine == "denoiser"

    def at(self, step: int, time: float = 0.0) -> list[Window]:
        """The windows of a step, counted from 0, at the noise time ``time`` (1: pure noise, 0: none)."""
        if not self.cut:
            return [self.row(self.turn(step, self.frames), 1, self.frames) if self.closed else tuple(range(self.size))]
        if self.hierarchical:
            between = [tuple(range(first + 1, last)) for first, last in pairwise(self.key_frames)]
            return [self.key_frames, *filter(None, between)]
        return SCHEDULES[self.schedule if 1 - time <= self.until else self.then](self, step, time)

    def views(self, frames: int) -> Windows | None:
        """How the temporal attention is cut in a window of so many frames; None: it sees all of them."""
        if not 0 < self.view_length < frames:
            return None
        whole, cut = self.closed and not self.cut, (self.view_length, self.view_overlap)
        return replace(self, frames=frames, length=cut[0], overlap=cut[1], closed=whole, view_length=0)

    def shares(self, windows: Sequence[Window], step: int = 0, time: float = 0.0) -> list[tuple[float, ...]]:
        """What each frame of each window of a step counts in the average; a frame's shares in all of them add up to 1.

        A frame in one window only has a share of exactly 1.
        """
        weights = [FUSES[self.fuse](self, window, step, time) for window in windows]
        total = [0.0] * self.frames
        for window, weighted in zip(windows, weights, strict=True):
            for frame, weight in zip(window, weighted, strict=True):
                total[frame] += weight
        pairs = zip(windows, weights, strict=True)
        return [tuple(weight / total[frame] for frame, weight in zip(*pair, strict=True)) for pair in pairs]

    def levels(self) -> list[int]:
        """Distances between the frames of a window, 1 first."""
        return [1] + [2**level for level in range(1, self.stride) if (self.size - 1) * 2**level < self.frames]

    def hop(self, distance: int = 1) -> int:
        """Frames from the beginning of a window to that of the next."""
        return self.size * distance - min(self.overlap, self.size - 1)

    def turn(self, step: int, period: int) -> int:
        """How far windows have gone on in a step, from 0 to ``period``."""
        return int(step * GOLDEN * period) % period

    def row(self, start: int, distance: int, length: int) -> Window:
        """A window from ``start`` on, around the loop where it passes the end."""
        return tuple((start + distance * place) % self.frames for place in range(length))


def uniform(windows: Windows, step: int, time: float) -> list[Window]:
    """Windows side by side that go on from step to step, so that their borders are elsewhere each time.

    In an open clip those that would reach over an end are shifted back into it; in a loop they go around.
    """
    found = []
    for distance in windows.levels():
        hop = windows.hop(distance)
        if windows.closed:
            first = windows.turn(step, windows.frames)
            starts = list(range(first, first + windows.frames, hop))
        else:
            starts = _starts(windows, distance, windows.turn(step, hop))
        found += [windows.row(start, distance, windows.size) for start in starts]
    return found


def static(windows: Windows, step: int, time: float) -> list[Window]:
    """The same windows in every step: from the first frame on, the last one shifted back into the clip."""
    if windows.closed:
        return [windows.row(start, 1, windows.size) for start in range(0, windows.frames, windows.hop())]
    return [windows.row(start, 1, windows.size) for start in _starts(windows, 1, 0)]


def batched(windows: Windows, step: int, time: float) -> list[Window]:
    """`static` without overlap: the cheapest, with a seam between windows. The last one is as long as the others."""
    return static(replace(windows, overlap=0), step, time)


def composite(windows: Windows, step: int, time: float) -> list[Window]:
    """While there is little but noise, frames from all over the clip at random, which agree on what moves where; then
    evenly apart in every other step, so that they agree on how it looks; in the others, and in the end, `uniform`."""
    if time >= COMPOSED:
        return _at_random(windows, step)
    return _spread(windows) if time >= SHARED and step % 2 == 0 else uniform(windows, step, time)


def _spread(windows: Windows) -> list[Window]:
    """Windows of frames as far apart as they can be: one from each of so many parts of the clip, the first of all
    parts, the second, ... A part with fewer frames begins again."""
    borders = [place * windows.frames // windows.size for place in range(windows.size + 1)]
    parts = [range(*pair) for pair in pairwise(borders)]
    return [tuple(part[place % len(part)] for part in parts) for place in range(max(map(len, parts)))]


def _at_random(windows: Windows, step: int) -> list[Window]:
    """The last window is filled up with frames that have been taken already."""
    frames = list(range(windows.frames))
    random.Random(step).shuffle(frames)
    frames += frames[: -windows.frames % windows.size]
    return [tuple(sorted(frames[at : at + windows.size])) for at in range(0, len(frames), windows.size)]


def _starts(windows: Windows, distance: int, offset: int) -> list[int]:
    """Where windows begin in an open clip so that together they reach from its first frame to its last."""
    last = windows.frames - 1 - (windows.size - 1) * distance
    hop = windows.hop(distance)
    first = offset - hop if offset else 0
    return sorted({min(max(start, 0), last) for start in range(first, last + hop, hop)})


SCHEDULES: dict[str, Callable[[Windows, int, float], list[Window]]] = {
    "uniform": uniform,
    "static": static,
    "batched": batched,
    "composite": composite,
}
"""The schedules by name. One that is added must give windows of `Windows.size` frames that cover the clip."""


def plan(settings: Movement, architecture: Architecture | None) -> Windows:
    """The windows of a clip by its settings, with as many frames as have to be drawn.

    Without a length of its own a clip is one window if the module reaches over it, else cut into windows as long as
    the clips that the module was trained on; without a module it is one, or cut as ControlVideo has it. Raises
    MotionError for a window, or views in it, beyond the module's position table, an overlap as long as the window, and
    a schedule that does not go with the rest.
    """
    hierarchical = settings.context_schedule == HIERARCHICAL
    fits = architecture is None and settings.context_engine == "denoiser" and settings.loop != "closed"
    if hierarchical and not (fits and settings.context_until == 1):
        raise MotionError(
            "context schedule is hierarchical: that is for open clips without a motion module, in the engine denoiser "
            "and in all steps"
        )
    if settings.view_length and settings.context_engine != "denoiser":
        raise MotionError(f"view length is {settings.view_length}: views are for the context engine denoiser")
    frames, length = settings.frames, settings.context_length
    if architecture is None:
        length = length or (max(3, math.isqrt(frames)) if hierarchical else frames)
    else:
        reaching = Positions.of(settings).of_architecture(architecture)
        frames = reaching.frames_to_draw(frames)
        length = length or (frames if frames <= reaching.max_frames else min(architecture.window, reaching.max_frames))
    windows = Windows(
        frames,
        length,
        settings.context_overlap,
        settings.context_stride,
        settings.context_schedule,
        settings.context_fuse,
        settings.loop == "closed",
        settings.context_engine,
        settings.context_until,
        settings.context_then,
        settings.view_length,
        settings.view_overlap,
    )
    if architecture is not None:
        reaching.check_frames(windows.reach)
    _check_overlaps(windows)
    return windows


def _check_overlaps(windows: Windows) -> None:
    """Raise MotionError for windows or views that share all of their frames."""
    if windows.cut and not windows.hierarchical and windows.overlap >= windows.size:
        raise MotionError(
            f"context overlap is {windows.overlap}: windows of {windows.size} frames share {windows.size - 1} at most"
        )
    views = windows.views(windows.size)
    if views is not None and views.overlap >= views.size:
        raise MotionError(
            f"view overlap is {views.overlap}: views of {views.size} frames share {views.size - 1} at most"
        )
