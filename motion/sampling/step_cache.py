"""A step cache: in most steps what the deep layers of the UNet leave is taken from an earlier step.

Ma et al. 2023, "DeepCache: Accelerating Diffusion Models for Free" (arXiv:2312.00858), section 3.2, at the outermost
skip connection: of such a step the first convolution, the decoder's last ResBlock and attention with their temporal
layer, and the last convolution are computed. What is kept belongs to a frame of the clip and to what is predicted of
it (the prompt, the negative prompt, each part of AND, a technique's further pass), not to a place in a batch: windows
may lie elsewhere in each step.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from motion import patching
from motion.models import sites
from motion.sampling import unet_call
from motion.sampling.arrangement import Arrangement, Told
from motion.sampling.casting import handed_over
from motion.sampling.rows import OPTIONS, Rows, is_channels_last, zeros
from motion.sampling.windows import Window
from motion.settings.step_cache import INTERVALS, StepCacheSettings

__all__ = ["INTERVALS", "attach", "attach_by_settings", "is_whole"]

ON_DEVICE = 2 * 2**30
"""Bytes up to which features are kept where the UNet computes; beyond they wait on the CPU."""
MOST = 8 * 2**30
"""Bytes up to which they are kept at all."""
KINDS = "cond_or_uncond"
"""The option by which the Forge family says what each clip in a batch is predicted for."""
_log = logging.getLogger(__name__)


@contextmanager
def attach(unet: nn.Module, arrangement: Arrangement, interval: int) -> Iterator[None]:
    """Within the scope ``unet`` computes its deep layers in each ``interval``-th step, the first two and the last.

    ``arrangement`` must be that of the `motion.attach` or `attach_windows` around this scope, and whoever samples says
    when a step begins (`Arrangement.step_begins`), else all is computed. A prediction that has nothing to take is
    computed whole, and so is the first step in which something that has a start and an end (SparseCtrl, cross-frame
    attention) acts or no longer acts, or one of ``arrangement.states`` is another. With an ``interval`` of 1 the output
    is bit-equal. On exit the UNet is exactly as it was found.

    Raises MotionError if the UNet's layout is unknown.
    """
    with ExitStack() as undo:
        unet = undo.enter_context(patching.uncompiled(unet))
        found = sites.find(unet)
        cache = _Cache(arrangement, found, interval)
        undo.callback(cache.forget)
        undo.callback(patching.item(vars(arrangement), "cached", True))
        _let_stand_aside(found, arrangement, undo)
        undo.callback(patching.before(found.decoder[-1], cache.exchange))
        arrangement.listeners.append(cache.hear)
        undo.callback(arrangement.listeners.remove, cache.hear)
        yield


def attach_by_settings(
    unet: nn.Module, settings: StepCacheSettings, arrangement: Arrangement
) -> AbstractContextManager[None]:
    """`attach` as the settings of a clip say; off installs nothing."""
    return nullcontext() if settings.cache == "off" else attach(unet, arrangement, INTERVALS[settings.cache])


@contextmanager
def attach_control(network: nn.Module, arrangement: Arrangement) -> Iterator[None]:
    """Within the scope the deep layers of a ControlNet stand aside with those of the UNet that it controls: what joins
    what is computed there, the residual of its outermost skip connection, is computed, and of the others their sizes.

    Raises MotionError if the network's layout is unknown.
    """
    with ExitStack() as undo:
        _let_stand_aside(sites.find(network), arrangement, undo)
        yield


def _let_stand_aside(found: sites.Sites, arrangement: Arrangement, undo: ExitStack) -> None:
    for layer in found.deep:
        undo.callback(patching.item(vars(layer), "forward", _Deep(layer.forward, arrangement)))


def is_whole(interval: int, step: int, steps: int | None) -> bool:
    """Whether all of the UNet is computed in that one of ``steps`` (None: unknown how many)."""
    return step < 2 or step % interval == 0 or (steps is not None and step >= steps - 1)


class _Deep:
    """Stands in for ``forward`` of a deep layer: where the layer stands aside, zeros like what it last put out."""

    def __init__(self, forward: Callable[..., Any], arrangement: Arrangement) -> None:
        self.forward, self.arrangement = forward, arrangement
        self.last: tuple[list[tuple[torch.Size, torch.dtype, bool]], Any] | None = None
        """Shapes of its rows, whether their channels lie last, and in what they came; None before the first."""

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self.arrangement.aside and self.last is not None:
            outputs, shape = self.last
            made = [zeros(len(x), row, dtype, x.device, last) for row, dtype, last in outputs]
            return tree_unflatten(made, shape)
        output = self.forward(x, *args, **kwargs)
        leaves, shape = tree_flatten(output)
        self.last = [(leaf.shape[1:], leaf.dtype, is_channels_last(leaf)) for leaf in leaves], shape
        return output


@dataclass
class _Kept:
    """What the deep layers left of one prediction in a step, frame by frame."""

    step: int
    features: Tensor
    """``[frames, c, h, w]``; where windows overlap, their average."""
    frames: set[int] = field(default_factory=set)
    """Those that are there."""


class _Cache:
    """Decides for each call of the host's whether it is computed whole; keeps what is deep, or gives what is kept."""

    def __init__(self, arrangement: Arrangement, found: sites.Sites, interval: int) -> None:
        self.arrangement, self.deep, self.interval = arrangement, found.deep, interval
        self.channels = int(found.decoder[-2].out_channels)  # type: ignore[arg-type]
        """What the decoder's last ResBlock is given from below; what came over the skip lies behind them."""
        self.kept: dict[Hashable, _Kept] = {}
        self.names: list[Hashable] = []
        """What the clips in the batch of the call in progress are predicted for."""
        self.told: Told | None = None
        """The step in progress."""
        self.size: torch.Size | None = None
        self.seen: Counter[Hashable] = Counter()
        """Predictions in the step so far."""
        self.state: list[Hashable] = []
        """Whether what has a start and an end acts in the step, and what else makes another step of it."""
        self.must = True
        """Whether all of the step is computed."""
        self.too_large = False
        self.rows: dict[Window, Rows] = {}

    def hear(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], batch: int) -> None:
        """A call of the host's begins."""
        size = unet_call.latents(args, kwargs).shape[-2:]
        if size != self.size:
            self.kept.clear()
            self.size = size
        if self.arrangement.told is not self.told:
            self._step_begins(self.arrangement.told, unet_call.time(args, kwargs))
        self.names = self._named(kwargs, batch // self.arrangement.frames)
        reuses = not self.must and all(map(self._is_there, self.names))
        self.arrangement.aside = self.deep if reuses else frozenset()

    def exchange(self, layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Where what is deep comes out again: ``[(groups frames), hidden + skip, h, w]``."""
        hidden, skip = args[0].tensor_split([self.channels], dim=1)
        if not self.arrangement.aside:
            self._keep(hidden)
            return None
        taken = torch.cat([self._of_frames(self.kept[name].features) for name in self.names])
        return (torch.cat([taken.to(skip), skip], dim=1), *args[1:])

    def forget(self) -> None:
        """Keep nothing."""
        self.kept.clear()
        self.arrangement.aside = frozenset()

    def _step_begins(self, told: Told | None, time: Any) -> None:
        spans = self.arrangement.spans
        now = (self.arrangement.time(time) or 0.0) if spans else 0.0
        state = [*(span(now) for span in spans), *(state() for state in self.arrangement.states)]
        another_pass = told is None or (self.told is not None and told.number <= self.told.number)
        if another_pass or state != self.state:
            self.kept.clear()
        self.must = told is None or is_whole(self.interval, *told)
        self.told, self.state = told, state
        self.seen.clear()
        self.rows.clear()

    def _named(self, kwargs: Mapping[str, Any], clips: int) -> list[Hashable]:
        """Prompt and negative prompt by what the host says of them, others by their order in the step."""
        kinds = kwargs.get(OPTIONS, {}).get(KINDS) or [None] * clips
        names: list[Hashable] = []
        for kind in kinds:
            name = self.arrangement.text, self.arrangement.still, kind
            names.append((*name, self.seen[name]))
            self.seen[name] += 1
        return names

    def _is_there(self, name: Hashable) -> bool:
        kept = self.kept.get(name)
        if kept is None or self.told is None or self.told.number - kept.step not in range(1, self.interval):
            return False
        return len(kept.frames) == self.arrangement.frames

    def _keep(self, hidden: Tensor) -> None:
        arrangement = self.arrangement
        if self.interval == 1 or self.told is None or self.too_large:
            return
        written = len(arrangement.window)
        clips = rearrange(hidden, "(g f) ... -> g f ...", g=len(self.names))[:, :written]
        shares = None
        if any(share != 1 for share in arrangement.shares):
            ahead = partial(arrangement.ahead, "cache", arrangement.windows, arrangement.windows.shares)
            shares = handed_over(arrangement.shares, hidden.device, hidden.dtype, ahead)[:, None, None, None]
        for name, clip in zip(self.names, clips, strict=True):
            kept = self.kept.get(name)
            if kept is None or kept.step != self.told.number:
                self.kept.pop(name, None)
                features = self._room(clip)
                if features is None:
                    return
                kept = self.kept[name] = _Kept(self.told.number, features)
            part = clip if shares is None else clip * shares
            rows = self._rows(arrangement.window).on(kept.features.device)
            kept.features.index_add_(0, rows, part.to(kept.features.device))
            kept.frames.update(arrangement.window)

    def _room(self, clip: Tensor) -> Tensor | None:
        """Zeros for the features of all frames, where there is room for them."""
        frames = self.arrangement.frames
        size = frames * clip[0].numel() * clip.element_size()
        total = size + sum(kept.features.nbytes for kept in self.kept.values())
        if total > MOST:
            self.too_large = True
            self.kept.clear()
            _log.warning(
                "the step cache is off: %d frames of this size would keep more than %d GB; draw fewer, or smaller ones",
                *(frames, MOST // 2**30),
            )
            return None
        device = clip.device if total <= ON_DEVICE else torch.device("cpu")
        return zeros(frames, clip.shape[1:], clip.dtype, device, is_channels_last(clip))

    def _of_frames(self, features: Tensor) -> Tensor:
        """The rows of a clip in the call in progress."""
        together = self.arrangement.together
        return features if together == tuple(range(len(features))) else self._rows(together).of(features)

    def _rows(self, frames: Window) -> Rows:
        return self.rows.setdefault(frames, Rows(frames))
