"""The scope in which a UNet obeys key frames: `attach` and its undo."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from motion import patching
from motion.errors import MotionError
from motion.fields.curve import Value
from motion.fields.curve_text import read_curve
from motion.models import sites
from motion.sampling import unet_call
from motion.sampling.arrangement import Arrangement
from motion.sampling.casting import CastModule, handed_over
from motion.sampling.rows import Average, Rows, take_rows
from motion.sampling.windows import Window, Windows
from sparsectrl.conditioning import key_frames, mask_condition
from sparsectrl.effect import Effect, Influence
from sparsectrl.encoder import Embedding, Shape, SparseEncoder
from sparsectrl.key_frames import sources


@contextmanager
def attach(
    unet: nn.Module,
    control: SparseEncoder,
    condition: Tensor,
    frames: int = 16,
    scale: Value = 1.0,
    influence: Influence | None = None,
    arrangement: Arrangement | None = None,
) -> Iterator[Effect]:
    """Within the scope every forward of ``unet`` obeys the key frames of ``condition``, through ``control``.

    ``condition [frames, C + 1, H, W]`` is that of `sparsectrl.condition`: latents of the clip's size, or pixels of
    eight times that; several clips of a batch may have one each, ``[clips, frames, C + 1, H, W]``. The batch is
    ``(groups frames)``, with the clip's frames in order; an ``arrangement`` says where it is otherwise and cuts it into
    windows, and must be that of the `motion.attach` beside it: the encoder runs for a window at a time, and residuals
    of windows in one pass are averaged. ``influence`` says more than ``scale``, and instead of it. Any number of
    encoders may be attached, before or after `motion.attach`; ``unet`` is recognised as there, and is on exit exactly
    as it was found. ``control`` is neither moved nor cast: a `CastModule` runs it.

    Without any key, and with a scale of 0, nothing is attached: the output is bit-equal to the plain one. What was done
    is told by the `Effect`. Raises MotionError if the UNet's layout is unknown or does not fit the encoder, if
    ``frames`` are other than the condition's, for factors of more or fewer blocks than the encoder has, for windows of
    more frames than it reaches, and, before anything is computed, for a batch that is no multiple of a pass's frames,
    and for text or latents of another size than the encoder's and the condition's.
    """
    arrangement = arrangement or Arrangement(Windows(frames))
    influence = Influence(scale, frames=frames) if influence is None else influence
    for curve in (influence.curve, *map(read_curve, influence.keys.values())):
        curve.at(influence.frames)  # says what is not in the clip
    with ExitStack() as undo:
        unet = undo.enter_context(patching.uncompiled(unet))
        found = sites.find(unet)
        _check_fit(found, control.shape)
        _check_frames(condition, frames, arrangement, control.shape)
        _check_blocks(influence, control.shape)
        conditions = condition if condition.ndim == 5 else condition[None]
        keys = [key_frames(one) for one in conditions]
        effect = Effect(tuple(sorted(set().union(*keys))), influence)
        if effect.keys and influence.curve.constant != 0:
            _check_channels(condition, control.shape)
            hooks = _Residuals(control, mask_condition(conditions), keys, effect, arrangement)
            if not influence.always:
                arrangement.spans.append(influence.covers)
                undo.callback(arrangement.spans.remove, influence.covers)
            undo.callback(patching.before(unet, hooks.begin, with_kwargs=True))
            undo.callback(patching.after(found.middle, hooks.add_to_middle))
            for number, layer in enumerate(found.decoder):
                undo.callback(patching.before(layer, partial(hooks.add_to_skip, number)))
        yield effect


class _Residuals:
    """The hooks of one encoder: what it adds to each pass of the UNet.

    In training, layers may be computed a second time on the way back: what they are given then stays until the next
    pass, elsewhere no longer than it is needed.
    """

    def __init__(
        self,
        encoder: SparseEncoder,
        conditions: Tensor,
        keys: Sequence[Sequence[int]],
        effect: Effect,
        arrangement: Arrangement,
    ) -> None:
        self.encoder = CastModule(encoder)
        self.embedding = CastModule(Embedding(encoder))
        self.shape = encoder.shape
        self.conditions = conditions
        self.keys = keys
        self.windows: dict[Any, tuple[Rows, Tensor]] = {}
        """What `_show` has found."""
        self.kept: tuple[Any, Tensor] | None = None
        """What `_embedded` has made, and of what."""
        self.effect = effect
        self.arrangement = arrangement
        self.given: unet_call.UNetCall | None = None
        self.skips: dict[int, Tensor] = {}

    def begin(self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take down what the pass is given; its data has the UNet's own dtype only further in."""
        given = unet_call.inputs(args, kwargs)
        unet_call.check_clips(len(given.x), len(self.arrangement.together) * len(self.keys))
        _check_sizes(given, self.conditions, self.shape)
        self.given, self.skips = given, {}

    def add_to_middle(self, module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        """Run the encoder where the UNet's own has just ended, and add its last residual.

        Where the UNet's deep layers stand aside, the encoder's do, too: the outermost skip alone has a residual.
        """
        if self.given is None or not self._acts(self.given):
            return None
        self.effect.passes += 1
        *skips, residual = self._residuals(self.given, output)
        if module in self.arrangement.aside:
            self.skips = {len(self.shape.outputs) - 1: residual}
            return None
        self.skips = dict(enumerate(reversed(skips)))
        self.effect.note(residual, output)
        return output + residual

    def _acts(self, given: unet_call.UNetCall) -> bool:
        influence = self.effect.influence
        if not influence.needs_time:
            return True
        time = self.arrangement.time(given.t) or 0.0
        return influence.covers(time) and any(influence.strengths(self.effect.keys, time))

    def add_to_skip(self, number: int, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Add a residual to the last channels of a decoder layer's input, which came over the skip connection."""
        if number not in self.skips:
            return None
        residual = self.skips[number] if torch.is_grad_enabled() else self.skips.pop(number)
        hidden, skip = args[0].tensor_split([-residual.shape[1]], dim=1)
        self.effect.note(residual, skip)
        return (torch.cat((hidden, skip + residual), dim=1), *args[1:])

    def _residuals(self, given: unet_call.UNetCall, like: Tensor) -> list[Tensor]:
        """The residuals of a pass, from the outside in, in the device and dtype of ``like``."""
        batch, together, seen = len(given.x), self.arrangement.together, self.arrangement.seen
        if len(seen) == 1:
            return self._of_window(seen[0][0], given, like)
        cut = self.arrangement.windows if self.arrangement.cut is None else self.arrangement.cut[0]
        ahead = partial(self.arrangement.ahead, "shares", cut, cut.shares)
        average = Average(batch, like.device, ahead=ahead)
        for window, share in seen:
            places = list(map(together.index, window))
            rows = Rows([start + place for start in range(0, batch, len(together)) for place in places])
            found = self._of_window(window, take_rows(given, rows, batch), like)
            average.add(found, rows, share)
        residuals: list[Tensor] = average.result()
        return residuals

    def _of_window(self, window: Window, given: unet_call.UNetCall, like: Tensor) -> list[Tensor]:
        influence = self.effect.influence
        time = self.arrangement.time(given.t) or 0.0 if influence.over_steps else 0.0
        rows, factors = self._show(window, len(given.x), like, time if influence.curve.over_steps else 0.0)
        t, context = given.t.to(like.device).expand(len(given.x)), given.context.to(like)
        outermost = bool(self.arrangement.aside)
        shown = rows.of(self._embedded(like, time)), t, context, len(window), outermost
        residuals = [residual * factors for residual in self.encoder(*shown, influence.motion)]
        if not influence.blocks:
            return residuals
        # The outermost may be alone.
        return [residual * block for residual, block in zip(residuals, influence.blocks, strict=False)]

    def _show(self, window: Window, batch: int, like: Tensor, time: float) -> tuple[Rows, Tensor]:
        """The rows of `_embedded` that a window is shown, and the strength of each row of a ``batch``; handed to the
        device of ``like`` once."""
        asked = window, batch, like.device, like.dtype, time
        if asked not in self.windows:
            shown = self._sources(window)
            rows = Rows([place for clip, frames in enumerate(shown) for place in self._places(clip, frames)])
            weights = partial(self._strengths, time)
            ahead = partial(self.arrangement.ahead, f"keys {id(self)}", self.arrangement.windows, weights)
            with torch.inference_mode(False):  # as in `_embedded`
                rows.on(like.device)
                (own,) = weights([window])
                factors = handed_over(own, like.device, like.dtype, ahead).repeat(batch // len(own))
                self.windows[asked] = rows, factors[:, None, None, None]
        return self.windows[asked]

    def _sources(self, window: Window) -> list[list[int]]:
        """The frames whose images the frames of a window are shown, in each clip."""
        return [sources(keys, window, self.effect.influence.nearest) for keys in self.keys]

    def _strengths(self, time: float, windows: Iterable[Window], *_: float) -> list[list[float]]:
        """Of each frame of each of the windows, clip after clip."""
        influence = self.effect.influence
        return [
            [
                scale * (influence.on_keys if frame in keys else influence.off_keys)
                for keys, frames in zip(self.keys, self._sources(window), strict=True)
                for frame, scale in zip(frames, influence.scales(window, time), strict=True)
            ]
            for window in windows
        ]

    def _embedded(self, like: Tensor, time: float) -> Tensor:
        """The embedding of each frame with a key, clip after clip, and last that of one without, in the device and
        dtype of ``like``; made once for all steps of the same strengths, unless gradients are to reach what it is made
        of."""
        influence = self.effect.influence
        strengths = tuple(each for keys in self.keys for each in influence.strengths(keys, time))
        if self.embedding.is_trained or (torch.is_grad_enabled() and self.conditions.requires_grad):
            return self._embed(like, strengths)
        wanted = like.device, like.dtype, strengths
        if self.kept is None or self.kept[0] != wanted:
            with torch.inference_mode(False), torch.no_grad():  # the scope may outlive the host's inference mode
                self.kept = wanted, self._embed(like, strengths)
        return self.kept[1]

    def _embed(self, like: Tensor, strengths: Sequence[float]) -> Tensor:
        frames = self.conditions.flatten(0, 1)
        keyed = [clip * self.arrangement.frames + key for clip, keys in enumerate(self.keys) for key in keys]
        of_keys = Rows(keyed).of(frames)
        if self.effect.influence.keys:
            of_keys = of_keys * handed_over(strengths, frames.device, frames.dtype)[:, None, None, None]
        shown = torch.cat([of_keys, torch.zeros_like(frames[:1])])
        embedded: Tensor = self.embedding(shown.to(like))
        return embedded

    def _places(self, clip: int, frames: Sequence[int]) -> list[int]:
        """Where in `_embedded` those frames of a clip are."""
        first, nothing = sum(map(len, self.keys[:clip])), sum(map(len, self.keys))
        places = {frame: first + number for number, frame in enumerate(self.keys[clip])}
        return [places.get(frame, nothing) for frame in frames]


def _check_fit(found: sites.Sites, shape: Shape) -> None:
    offered = {name: site.channels for name, site in found.by_slot.items() if name.startswith("down_blocks")}
    wanted = {
        f"down_blocks.{level}.motion_modules.{layer}": width
        for level, width in enumerate(shape.widths)
        for layer in range(shape.layers)
    }
    if offered != wanted:
        raise MotionError(
            f"the SparseCtrl encoder ({sites.widths(wanted)}) does not fit this checkpoint "
            f"({sites.widths(offered)}): choose one made for it (the published ones are for SD1.5)."
        )


def _check_frames(condition: Tensor, frames: int, arrangement: Arrangement, shape: Shape) -> None:
    found = condition.shape[-4]
    if found != frames:
        raise MotionError(f"the condition has {found} frames and the clip {frames}: give one for each frame.")
    together, most = arrangement.windows.reach, shape.max_frames or math.inf
    if not 1 <= together <= most:
        raise MotionError(f"{together} frames do not fit this SparseCtrl encoder: it reaches over 1 to {most}.")


def _check_blocks(influence: Influence, shape: Shape) -> None:
    found, wanted = len(influence.blocks), len(shape.outputs) + 1
    if found not in (0, wanted):
        raise MotionError(f"{found} key frame blocks for a SparseCtrl encoder of {wanted}: give a factor for each")


def _check_channels(condition: Tensor, shape: Shape) -> None:
    channels = condition.shape[-3] - 1
    if channels != shape.condition:
        kind = "pixels" if shape.embedding else "latents"
        raise MotionError(
            f"the key images have {channels} channels where this SparseCtrl encoder takes "
            f"{shape.condition} of {kind}: give it images of its own kind."
        )


def _check_sizes(given: unet_call.UNetCall, condition: Tensor, shape: Shape) -> None:
    height, width = (side * shape.stride for side in given.x.shape[-2:])
    if condition.shape[-2:] != (height, width):
        raise MotionError(
            f"the key images are {condition.shape[-1]}x{condition.shape[-2]} where the clip needs {width}x{height}: "
            "resize them."
        )
    if given.context.shape[-1] != shape.context:
        raise MotionError(
            f"the text has {given.context.shape[-1]} channels where this SparseCtrl encoder reads {shape.context}: "
            "choose an encoder made for this checkpoint."
        )
