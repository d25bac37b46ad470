"""Where the frames of a clip lie in a batch, and which of them the temporal layers see together, in which order."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from motion.errors import MotionError
from motion.models.motion.temporal import Fusion
from motion.patching import Undo
from motion.sampling.casting import handed_over
from motion.sampling.sharing import ALONE, Sharing
from motion.sampling.windows import Window, Windows

T = TypeVar("T")
STEPS = 1000
"""Time steps of the noise schedules that UNets are trained with."""
STEPS_AHEAD = 100
"""More than most passes have, and than windows that go on have places."""

Listener = Callable[[tuple[Any, ...], Mapping[str, Any], int], None]
"""Told what a UNet is called with, and the rows of its batch."""
Reads = Callable[[Window], Iterable[int]]
"""The frames that a window is given to read, by absolute number; those that are its own already count for nothing."""


class Told(NamedTuple):
    """A step as the host tells of it; a sampler's second evaluation of the network counts as one, too."""

    number: int
    """From 0 on in each pass."""
    of: int | None
    """How many the pass has, where the host knows."""


def progress(time: float) -> float:
    """How far a time step is on the way from noise (0) to picture (1)."""
    return 1 - time / (STEPS - 1)


def fusion(windows: Windows, found: Sequence[Window], step: int = 0, time: float = 0.0) -> Fusion:
    """The windows of a step for `motion.models.motion.temporal`."""
    return Fusion.of(found, windows.shares(found, step, time), windows.frames)


def _extended(frames: Window, window: Window, given: Iterable[Reads]) -> Window:
    """``frames``, and behind them what else ``window`` is given."""
    return tuple(dict.fromkeys([*frames, *(frame for reads in given for frame in reads(window))]))


@dataclass
class Arrangement:
    """How a host lays out its batches, and how a clip is taken through the UNet.

    ``prompts``: prompts per frame, which may change between passes. A host that composes several (AND) puts those of
    one frame side by side, in front of the rest: ``[(frames prompts) + (groups frames)]``; with 1 every group of the
    batch is a whole clip already.

    ``rows_at_once``: frames that a spatial layer takes at a time; None: all. Whoever gives layers something by the row
    from outside of the UNet's own calls, as IP-Adapters do, needs None. ``may_slice``: it may change.

    ``sharing``: the processes that draw the clip, of which each computes some of the windows of a step.

    ``pause``: called before each window, in the engine "attention" before each temporal layer; what it raises ends the
    call of the UNet there.

    A step is what is done at one time step of the noise schedule, in one call of the UNet by the host or in several
    (prompt and negative prompt apart); all of them have the same windows. To read the time of a call is to wait for its
    device; where a host says when a step begins (`step_begins`), it is done once in a step.

    ``listeners``: told of each call that a host makes of the UNet, before it is cut into windows. ``spans``: whether
    what has a start and an end acts at a time step. ``states``: what else makes of one step another, without a look at
    the device: the texts of prompt editing, a host's ControlNets that start and end.
    """

    windows: Windows
    prompts: int = 1
    rows_at_once: int | None = None
    may_slice: bool = False
    pause: Callable[[], None] = lambda: None
    sharing: Sharing = ALONE
    listeners: list[Listener] = field(default_factory=list, init=False, repr=False)
    spans: list[Callable[[float], bool]] = field(default_factory=list, init=False, repr=False)
    states: list[Callable[[], Hashable]] = field(default_factory=list, init=False, repr=False)
    window: Window = field(init=False)
    """The frames of each clip that the call of the UNet in progress is for, in order."""
    shares: Sequence[float] = field(init=False, repr=False)
    """How much each of them counts for in the step."""
    together: Window = field(init=False)
    """The frames of each clip in the call: those of its window, and behind them those that it only reads."""
    moving: Window = field(init=False)
    """The first of `together`: those that temporal layers see."""
    still: bool = field(default=False, init=False)
    """Whether the temporal layers, and the norms that join frames for them, stand aside: each frame is by itself."""
    still_clips: int = field(default=0, init=False)
    """For how many clips of the batch, the first ones, that is so in the calls in progress."""
    text: str = field(default="", init=False)
    """What a technique asks for in the calls in progress besides the step's own predictions."""
    by_row: bool = field(default=False, init=False)
    """Whether layers of the UNet are given something by the row: each frame keeps rows of its own."""
    aside: frozenset[nn.Module] = field(default=frozenset(), init=False, repr=False)
    """Layers that are not computed in the call in progress: what is hooked to them stands aside with them."""
    cached: bool = field(default=False, init=False)
    """Whether there are calls in which layers stand aside."""
    step: int = field(default=-1, init=False)
    """The step in progress, counted from 0."""
    told: Told | None = field(default=None, init=False)
    """The step that the host has told of; a new one each time."""
    _time: float | None = field(default=None, init=False, repr=False)
    """Of the step in progress."""
    _read: float | None = field(default=None, init=False, repr=False)
    """Of the newest call whose time was read."""
    _host_tells: bool = field(default=False, init=False, repr=False)
    _is_read: bool = field(default=False, init=False, repr=False)
    """Whether `_read` is of the step that the host has told of."""
    _found: list[Window] = field(init=False, repr=False)
    _fusions: dict[tuple[torch.device, torch.dtype, int], Fusion] = field(default_factory=dict, init=False, repr=False)
    _foreseen: set[Any] = field(default_factory=set, init=False, repr=False)
    _hidden: list[Reads] = field(default_factory=list, init=False, repr=False)
    _shown: list[Reads] = field(default_factory=list, init=False, repr=False)
    """What windows are given to read, without and with the temporal layers."""

    def __post_init__(self) -> None:
        whole = tuple(range(self.windows.frames))
        self._found = [whole]
        self.take(whole)

    @property
    def frames(self) -> int:
        """Frames of the clip."""
        return self.windows.frames

    @property
    def whole(self) -> bool:
        """Whether the UNet runs for all frames of a clip in windows (engine "attention")."""
        return self.windows.cut and self.windows.engine == "attention"

    @property
    def when(self) -> tuple[int, float]:
        """The number of the step in progress, and its noise time (1: pure noise, 0: none)."""
        return max(self.step, 0), (self._time or 0) / STEPS

    @property
    def groups(self) -> list[tuple[Window, Sequence[float]]]:
        """The frames that the attention of temporal layers sees together in the call in progress, each group with what
        its frames count: its window, or the windows or views in it."""
        if (cut := self.cut) is None:
            return [(self.moving, (1.0,) * len(self.moving))]
        groups = (tuple(self.moving[place] for place in seen) for seen in cut[1])
        return [*zip(groups, cut[0].shares(cut[1], *self.when), strict=True)]

    @property
    def seen(self) -> list[tuple[Window, Sequence[float]]]:
        """`groups`, and behind them the frames that are read without temporal layers, by themselves."""
        read = self.together[len(self.moving) :]
        return [*self.groups, *([(read, (1.0,) * len(read))] if read else [])]

    @property
    def still_rows(self) -> int:
        """The rows of `still_clips` in the call in progress."""
        return self.still_clips * len(self.together)

    @property
    def longest(self) -> int:
        """Frames that temporal layers see together at most."""
        if not self._shown:
            return self.windows.reach
        most = max(len(_extended(window, window, self._shown)) for window in self.windows.at(0))
        views = self.windows.views(most)
        return most if views is None else views.size

    def shares_of(self, windows: Sequence[Window]) -> list[tuple[float, ...]]:
        """What each frame of each of the windows of the step in progress counts."""
        return self.windows.shares(windows, *self.when)

    @property
    def cut(self) -> tuple[Windows, list[Window]] | None:
        """How the attention of temporal layers is cut within the call in progress, over the places of `moving`."""
        if self.whole:
            return self.windows, self._found
        views = self.windows.views(len(self.moving))
        return None if views is None else (views, views.at(*self.when))

    def give(self, reads: Reads, to_temporal: bool = False) -> Undo:
        """Let each window read further frames, at their noise and with all that belongs to them, without writing them.

        ``reads`` names them for a window. Where the engine runs the UNet for one window at a time, their rows stand
        behind the window's in every call (`together`); where it runs for all frames, they are there already. Temporal
        layers, and the norms of families that join frames, do not see them unless ``to_temporal`` is asked for, which
        `motion.attach` counts in if it comes later. Raises MotionError for that in the engine "attention".
        """
        if to_temporal and self.whole:
            raise MotionError("context engine is attention: temporal layers see further frames in denoiser only")
        table = self._shown if to_temporal else self._hidden
        table.append(reads)
        return lambda: table.remove(reads)

    def take(self, window: Window, shares: Sequence[float] | None = None) -> None:
        """The calls of the UNet that follow are for this window, whose frames count for so much each (None: whole)."""
        self.window, self.shares = window, [1.0] * len(window) if shares is None else shares
        self.moving = _extended(window, window, self._shown)
        self.together = _extended(self.moving, window, self._hidden)

    @contextmanager
    def further(self, text: str, motion: bool = True) -> Iterator[None]:
        """Within, calls of the UNet are for a prediction that a technique asks for besides the step's own; without
        ``motion`` each frame is drawn by itself."""
        before = self.text, self.still
        self.text, self.still = text, not motion
        try:
            yield
        finally:
            self.text, self.still = before

    @contextmanager
    def beside(self, still_clips: int) -> Iterator[None]:
        """Within, the first ``still_clips`` of each batch are drawn frame by frame, the others as ever. They are groups
        of their own, so ``prompts`` is 1."""
        before, self.still_clips = self.still_clips, still_clips
        try:
            yield
        finally:
            self.still_clips = before

    def restart(self) -> None:
        """Count the steps from 0 again: another clip begins, another pass over this one, or another round."""
        self.step, self.told, self._time, self._is_read = -1, None, None, False
        self._foreseen.clear()

    def step_begins(self, number: int | None = None, of: int | None = None) -> None:
        """The host says: whatever calls of the UNet follow are at one time step, until this is called again.

        It is the step of that ``number``, counted from 0 (None: the next), ``of`` so many, where the host knows.
        """
        following = 0 if self.told is None else self.told.number + 1
        self.told = Told(following if number is None else number, of)
        self._host_tells, self._is_read = True, False

    def time(self, of_call: Tensor | float | None) -> float | None:
        """The time step of a call of the UNet, as it was given ``of_call``: one number, or the first of its rows."""
        if not self._is_read:
            self._read = None if of_call is None else float(torch.as_tensor(of_call).flatten()[0])
            self._is_read = self._host_tells
        return self._read

    def begin(self, time: Tensor | float | None) -> list[Window]:
        """The frames that each call of the UNet takes at the time step ``time`` (None: unknown, a step of its own).

        With the engine "attention" it is one call of all frames, and `fusion` has the windows.
        """
        windows = self.windows
        if not (windows.cut or windows.closed or windows.view_length):
            return self._found
        now = self.time(time)
        if now is None or now != self._time:
            self.step, self._time = self.step + 1, now
            self._found = windows.at(self.step, (now or 0) / STEPS)
            self._fusions.clear()
        return [tuple(range(windows.frames))] if self.whole else self._found

    def rows(self, batch: int, window: Window) -> list[int]:
        """The rows of the host's batch that hold ``window``, clip after clip, each in the window's order."""
        mixed = self.frames * self.prompts
        rows = [row for prompt in range(self.prompts) for row in range(prompt, mixed, self.prompts)]
        rows += range(mixed, batch)
        return [rows[start + frame] for start in range(0, batch, self.frames) for frame in window]

    def frame_numbers(self, batch: int) -> list[int]:
        """The frame in each row of a batch in the call in progress."""
        return [self.together[row % len(self.together)] for row in range(batch)]

    def fusion(self, x: Tensor) -> Fusion | None:
        """What the attention over ``x`` sees of the step's windows, or of the views in one; None: all frames."""
        key = x.device, x.dtype, len(self.moving)
        if key not in self._fusions:
            if (cut := self.cut) is None:
                return None
            own = fusion(*cut, *self.when)
            ahead = partial(self.ahead, "fusion", cut[0], lambda *at: [fusion(cut[0], *at).numbers])
            self._fusions[key] = own.over(handed_over(own.numbers, x.device, torch.float32, ahead), x.dtype)
        return self._fusions[key]

    def ahead(self, what: str, windows: Windows, make: Callable[..., Iterable[T]]) -> Iterator[T]:
        """What ``make`` gives of the windows of each step to come, of its number and its noise time, as if that stayed
        what it is; in a pass once for each ``what``."""
        if (what, windows) not in self._foreseen:
            self._foreseen.add((what, windows))
            for step in range(self.step, self.step + STEPS_AHEAD):
                at = step, self.when[1]
                yield from make(windows.at(*at), *at)
