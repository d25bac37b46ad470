"""Cross-frame attention: spatial self-attention whose keys and values come from other frames.

What each frame reads is a table. Published ones: the first frame (Khachatryan et al. 2023, "Text2Video-Zero",
arXiv:2303.13439, equation 9), the first and the one before (Wu et al. 2022, "Tune-A-Video", arXiv:2212.11565,
equation 4), all (Zhang et al. 2023, "ControlVideo", arXiv:2305.13077, equation 6), two given frames (the clips of
ControlVideo's hierarchical sampler, section 3.4), the first beside itself with aligned statistics (Hertz et al. 2023,
"StyleAligned", arXiv:2312.02133, equation 3), and a frame of the first window beside itself (ContextRef of
ComfyUI-AnimateDiff-Evolved).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from itertools import chain
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from motion import patching
from motion.errors import MotionError
from motion.fields.curve import Value
from motion.models import sites
from motion.sampling import unet_call
from motion.sampling.arrangement import Arrangement, progress
from motion.sampling.frame_tables import MODES, Table, TableOf, between_keys, table_of
from motion.sampling.frame_values import FrameValues, number_of
from motion.sampling.moving import norm_over_clip
from motion.sampling.rows import OPTIONS, Rows
from motion.sampling.windows import Window, Windows
from motion.settings.cross_frame import LEVELS, CrossFrame

__all__ = ["MODES", "Table", "attach", "attach_by_settings"]


@contextmanager
def attach(
    unet: nn.Module,
    frames: int = 16,
    mode: str | Table = "first",
    *,
    pair: tuple[int, int] | None = None,
    levels: Collection[int] | None = None,
    start: float = 0.0,
    end: float = 1.0,
    strength: Value = 1.0,
    clip_frames: int | None = None,
    clip_norms: bool = False,
    arrangement: Arrangement | None = None,
) -> Iterator[None]:
    """Within the scope the self-attention of ``unet`` reads keys and values of other frames.

    ``mode``: "first", "sparse-causal", "full", "pair" (the two frames of ``pair``; left out, the clip's first and
    last), "style-aligned" (itself and the first, queries and keys with the first one's mean and deviation), "reference"
    (itself and the frame at its place in the first window, one window's length after the other), or a table of one's
    own: for each frame of the clip the frames that it reads. The keys and values of a frame are projected once, however
    many read them. ``levels``: those sizes of the picture alone, 0 is the latents' own, 1
    half of it ...; None: all. ``start`` and ``end`` are parts of the way from noise (0) to picture (1) in time steps.
    ``strength``: of what a frame makes by itself (0) and with the others (1), a number or a curve over the finished
    clip's frames (``clip_frames``, None: all); between them attention is computed twice.
    ``clip_norms``: the GroupNorms of the ResBlocks have one statistic over the clip, as in ControlVideo's and
    Tune-A-Video's UNets; else one for each frame, as in every image model.

    The batch is ``(groups frames)``; an ``arrangement`` must be that of the `motion.attach` beside it, in either order.
    A window that lacks a frame is given it to read. ``unet`` is recognised as there; it may be a ControlNet, too. On
    exit it is exactly as it was found.

    Raises MotionError for a mode that does not exist, frames that are not in the clip, a clip of one frame, a UNet of
    unknown layout or one that is attached already, and, before anything is computed, for a batch that is no multiple
    of the frames or self-attention that somebody else has replaced.
    """
    arrangement = arrangement or Arrangement(Windows(frames))
    table = table_of(mode, frames, pair, arrangement.windows.size)
    is_between_keys = mode == "full" and arrangement.windows.hierarchical
    values = FrameValues(arrangement, clip_frames or frames, [strength])
    calls = _Calls(between_keys(arrangement) if is_between_keys else table, values, number_of(strength), start, end)

    def given(window: Window) -> Iterable[int]:
        return arrangement.windows.ends(window) if is_between_keys else dict.fromkeys(chain(*table(window)))

    with ExitStack() as undo:
        unet = undo.enter_context(patching.uncompiled(unet))
        found = sites.find(unet)
        _check(unet, frames, arrangement)
        undo.callback(arrangement.give(given, to_temporal=clip_norms))
        if (start, end) != (0, 1):
            arrangement.spans.append(calls.covers)
            undo.callback(arrangement.spans.remove, calls.covers)
        undo.callback(values.follow(unet, rows=calls.mixes))
        undo.callback(patching.before(unet, calls.begin, with_kwargs=True))
        for attention, level in sites.self_attentions(found):
            if levels is None or level in levels:
                undo.callback(patching.before(attention, calls.join, with_kwargs=True))
                undo.callback(patching.after(attention, calls.part))
                for name in ("to_q", "to_k") if mode == "style-aligned" else ():
                    undo.callback(patching.after(attention.get_submodule(name), calls.align))
                for name in ("to_k", "to_v"):
                    undo.callback(patching.after(attention.get_submodule(name), calls.gather))
        if clip_norms:
            norm_over_clip(found, arrangement, undo)
        yield


def attach_by_settings(
    unet: nn.Module, settings: CrossFrame, arrangement: Arrangement, zero_shot: bool, frames: int
) -> AbstractContextManager[None]:
    """`attach` as the settings of a clip of ``frames`` say, which is ``zero_shot`` or has a motion module; off installs
    nothing."""
    mode = settings.cross_frame_mode(zero_shot)
    if mode == "none" or number_of(settings.cross_frame_strength) == 0:
        return nullcontext()
    strength: dict[str, Any] = {"strength": settings.cross_frame_strength, "clip_frames": frames}
    if settings.cross_frame == "auto":
        return attach(unet, arrangement.frames, mode, arrangement=arrangement, **strength)
    levels = [list(LEVELS).index(name) for name in settings.cross_frame_levels]
    span = {"start": settings.cross_frame_start, "end": settings.cross_frame_end, **strength}
    options = {"levels": levels, **span, "clip_norms": settings.clip_norms, "arrangement": arrangement}
    return attach(unet, arrangement.frames, mode, **options)


class _Call(NamedTuple):
    """Which frames are read in a call of the UNet of ``frames`` a clip."""

    frames: int
    rows: Rows | None
    """Of the batch, clip after clip; None: all of them in their order."""
    shared: bool
    """Whether all frames of a clip read the same."""


class _Calls:
    """The hooks: where all frames of a clip read the same, they are one long sequence of queries for one of keys; else
    projected keys and values are laid side by side for each of them."""

    def __init__(self, table_of: TableOf, values: FrameValues, strength: Value, start: float, end: float) -> None:
        self.table_of = table_of
        self.values = values
        self.arrangement = values.arrangement
        self.strength = strength
        self.start, self.end = start, end
        self.call: _Call | None = None
        self._given: Any = None
        """What the attention in progress is given itself, where that counts."""
        self._made: dict[tuple[Window, int, bool], _Call | None] = {}

    def begin(self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Look up what the frames of the call read."""
        together, batch = self.arrangement.together, unet_call.batch(args, kwargs)
        unet_call.check_clips(batch, len(together))
        if kwargs.get(OPTIONS, {}).get("patches_replace", {}).get("attn1"):
            raise MotionError(
                "another extension replaces the UNet's self-attention (perturbed or self-attention guidance, style "
                "alignment): disable it, or set Motion's cross-frame attention to None"
            )
        key = together, batch // len(together), self.arrangement.by_row
        if key not in self._made:
            self._made = {**self._made, key: self._call(*key)} if len(self._made) < KEPT else {key: self._call(*key)}
        self.call = self._made[key] if self._acts(unet_call.time(args, kwargs)) else None

    @property
    def mixes(self) -> bool:
        """Whether what frames make by themselves counts, too."""
        return self.strength != 1

    def join(self, attention: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The queries of a clip in one sequence, and beside them what is read."""
        self._given = (args, kwargs) if self.mixes else None
        if self.call is None or not self.call.shared:
            return None
        x, frames = args[0], self.call.frames
        name = "encoder_hidden_states" if "encoder_hidden_states" in kwargs else "context"
        told = kwargs.get(name)  # Forge's patches give contexts of their own
        if told is not None or self.call.rows is not None:
            kwargs = {**kwargs, name: self._read(x if told is None else told)}
        if kwargs.get("value") is not None:
            kwargs = {**kwargs, "value": self._read(kwargs["value"])}
        return (rearrange(x, "(g f) n c -> g (f n) c", f=frames), *args[1:]), kwargs

    def part(self, attention: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        """The frames of a clip apart again, and mixed with what each makes by itself."""
        call, given, self._given = self.call, self._given, None
        if call is None:
            return None
        apart = rearrange(output, "g (f n) c -> (g f) n c", f=call.frames) if call.shared else output
        if given is None:
            return apart if call.shared else None
        self.call = None  # the projections inside stay the frames' own
        try:
            alone: Tensor = attention.forward(*given[0], **given[1])
        finally:
            self.call = call
        return torch.lerp(alone, apart, self.values.of_rows(self.strength, alone))

    def gather(self, projection: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        """Keys or values, ``[(groups frames), tokens, C]``, side by side for each frame that reads them."""
        if self.call is None or self.call.shared or self.call.rows is None:
            return None
        return rearrange(self.call.rows.of(output), "(f read) n c -> f (read n) c", f=len(output))

    def align(self, projection: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        """Queries or keys, ``[(groups frames), tokens, C]``, with the mean and deviation of the first frame's."""
        if self.call is None:
            return None
        clips = rearrange(output, "(g f) n c -> g f n c", f=self.call.frames)
        first = self.arrangement.together.index(0)
        mean = clips.mean(dim=2, keepdim=True)
        deviation = (clips.var(dim=2, keepdim=True) + LEAST_VARIANCE).sqrt()
        scale = deviation[:, first : first + 1] / deviation
        return torch.addcmul(mean[:, first : first + 1], clips - mean, scale).flatten(0, 1)

    def covers(self, time: float) -> bool:
        """Whether frames look at others at that time step."""
        return self.start <= progress(time) <= self.end

    def _acts(self, time: Any) -> bool:
        return (self.start, self.end) == (0, 1) or self.covers(self.arrangement.time(time) or 0.0)

    def _call(self, together: Window, groups: int, by_row: bool) -> _Call | None:
        at, table = {frame: place for place, frame in enumerate(together)}, self.table_of(together)

        def place(frame: int) -> int:
            return at[frame] if frame in at else _nearest(together, frame)

        found = {id(read): [place(frame) for frame in read] for read in table}  # most tables repeat one object
        places = [found[id(read)] for read in table]
        if all({*read} == {place} for place, read in enumerate(places)):
            return None
        shared = not by_row and all(read == places[0] for read in places)
        count = len(together)
        if shared and places[0] == list(range(count)):
            return _Call(count, None, shared)
        each = places[:1] if shared else places
        rows = [group * count + place for group in range(groups) for read in each for place in read]
        return _Call(count, Rows(rows), shared)

    def _read(self, x: Tensor) -> Tensor:
        """Of ``x [(groups frames), tokens, C]`` what all frames of a clip read, ``[groups, read tokens, C]``."""
        assert self.call is not None
        read = x if self.call.rows is None else self.call.rows.of(x)
        return rearrange(read, "(g f) n c -> g (f n) c", g=len(x) // self.call.frames)


LEAST_VARIANCE = 1e-5
"""What is added to variances before they are divided by, as in the authors' code."""
KEPT = 64
"""Sets of frames computed together whose rows are remembered."""


def _nearest(together: Window, frame: int) -> int:
    """Where among those in the call the frame is that stands in for one that is not."""
    return min(range(len(together)), key=lambda place: abs(together[place] - frame))


def _check(unet: nn.Module, frames: int, arrangement: Arrangement) -> None:
    if frames < 2:
        raise MotionError("cross-frame attention has nothing to read in a clip of 1 frame: give more, or turn it off")
    if arrangement.frames != frames:
        raise MotionError(f"the arrangement is of {arrangement.frames} frames, not of {frames}: give both the same")
    if arrangement.rows_at_once is not None or arrangement.may_slice:
        raise MotionError("layers that are given some frames at a time (rows_at_once) cannot read the others: leave it")
    if any(isinstance(getattr(hook, "__self__", None), _Calls) for hook in unet._forward_pre_hooks.values()):
        raise MotionError("this UNet has cross-frame attention already: leave the other scope first")
