"""The scope in which a UNet moves: `attach` and its undo."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from motion import patching
from motion.errors import MotionError
from motion.models import sites
from motion.models.motion.architecture import Architecture
from motion.models.motion.model import MotionModel
from motion.models.motion.positions import AS_TRAINED, Positions
from motion.models.motion.stand_ins import put_positions, stand_ins
from motion.models.motion.temporal import Fusion, TemporalTransformer
from motion.sampling import unet_call
from motion.sampling.arrangement import Arrangement
from motion.sampling.casting import CastModule
from motion.sampling.effect import EffectOfCalls, Factors, MotionEffect
from motion.sampling.moving import move, norm_over_clip
from motion.sampling.rows import Average, Part, Rows, in_parts, settle, take_call
from motion.sampling.windows import Window, Windows


@contextmanager
def attach(
    unet: nn.Module,
    model: MotionModel,
    frames: int = 16,
    scale: float = 1.0,
    arrangement: Arrangement | None = None,
    effect: MotionEffect | None = None,
    positions: Positions = AS_TRAINED,
) -> Iterator[None]:
    """Within the scope every forward of ``unet`` sees its batch as clips of ``frames``.

    The batch is ``(groups frames)``, the frames of a clip side by side; any number of groups. An ``arrangement`` says
    where it is otherwise, and how clips that are longer than the model reaches are cut into windows. ``scale``
    multiplies what the layers add; at 0 the UNet's output is bit-equal to the plain one. An ``effect`` says more than
    ``scale``, and instead of it; ``positions`` what becomes of the position tables.

    ``unet`` is recognised by its structure (ldm, sgm, Forge, ldm_patched, diffusers), and is on exit exactly as it was
    found. What `torch.compile` has made of it runs uncompiled meanwhile.

    ``model`` is neither moved nor cast nor owned by the UNet: each of its layers is run by a `CastModule`.

    Raises MotionError if the UNet's layout is unknown or does not fit the model, if it is attached already, if a
    window is out of the model's range, for a curve with keys that are not in the clip, and, before anything is
    computed, for a batch that is no multiple of ``frames``.
    """
    arrangement = arrangement or Arrangement(Windows(frames))
    if arrangement.frames != frames:
        raise MotionError(f"the arrangement is of {arrangement.frames} frames, not of {frames}: give both the same")
    with ExitStack() as undo:
        unet = undo.enter_context(patching.uncompiled(unet))
        found = sites.find(unet)
        _check(found, positions.of_architecture(model.architecture), arrangement)
        undo.enter_context(attach_windows(unet, arrangement))
        acting = EffectOfCalls(effect or MotionEffect(scale, frames=frames), arrangement, model.slots)
        if acting.acts:
            _part(found, arrangement, model.architecture.family.resnet_norm_over_frames, undo)
        undo.callback(put_positions(unet, model, positions))
        _attach_layers(unet, found, model, acting, undo)
        yield


@contextmanager
def attach_further(
    unet: nn.Module,
    model: MotionModel,
    arrangement: Arrangement,
    effect: MotionEffect | None = None,
    positions: Positions = AS_TRAINED,
) -> Iterator[None]:
    """Within the scope the layers of a further motion module continue those of the `attach` around it, whose
    ``arrangement`` it is given; the noise schedule and the windows stay the first one's.

    Any number of modules, each with an ``effect`` of its own. Raises MotionError as `attach` does.
    """
    with ExitStack() as undo:
        unet = undo.enter_context(patching.uncompiled(unet))
        found = sites.find(unet)
        _check(found, positions.of_architecture(model.architecture), arrangement)
        if not is_attached(unet):
            raise MotionError("a further motion module goes beside a first one: attach that around it")
        undo.callback(put_positions(unet, model, positions))
        _attach_layers(unet, found, model, EffectOfCalls(effect or MotionEffect(), arrangement, model.slots), undo)
        yield


def _check(found: sites.Sites, architecture: Architecture, arrangement: Arrangement) -> None:
    _check_fit(found, architecture)
    architecture.check_frames(arrangement.longest)


def _attach_layers(
    unet: nn.Module, found: sites.Sites, model: MotionModel, acting: EffectOfCalls, undo: ExitStack
) -> None:
    """Let the layers of ``model`` continue those of the UNet, unless their effect is 0."""
    if not acting.acts:
        return
    undo.callback(acting.follow(unet))
    if model.architecture.family.resnet_norm_over_frames:
        norm_over_clip(found, acting.arrangement, undo)
    for name, layer in model.slots.items():
        continuation = _Continuation(unet, layer, acting.arrangement, acting.on(name))
        undo.callback(patching.after(found.by_slot[name].layer, continuation))


def _part(found: sites.Sites, arrangement: Arrangement, norms_see_all: bool, undo: ExitStack) -> None:
    """Let the spatial layers take a few frames at a time, where that is asked for."""
    if arrangement.rows_at_once is None and not arrangement.may_slice:
        return
    for layer in (*found.transformers, *(() if norms_see_all else found.resblocks)):
        undo.callback(patching.item(vars(layer), "forward", in_parts(layer.forward, lambda: arrangement.rows_at_once)))


def is_attached(unet: nn.Module) -> bool:
    """Whether ``unet`` is in the scope of `attach` or `windowed`."""
    return any(isinstance(getattr(hook, "__self__", None), _Calls) for hook in unet._forward_pre_hooks.values())


@contextmanager
def attach_windows(unet: nn.Module, arrangement: Arrangement) -> Iterator[None]:
    """Within the scope each call of ``unet`` becomes one for each window of ``arrangement``.

    Whatever has as many rows as the batch is cut by frame number, here and nowhere else; hooks that others put on the
    UNet or its layers, before or after, see one window at a time and find its frames in ``arrangement.frame_numbers``.
    What is predicted where windows overlap is averaged. The windows take turns, so the memory is that of one of them.
    """
    calls = _Calls(arrangement)
    if is_attached(unet):
        raise MotionError("this UNet is already attached: let the clip that it draws end first.")
    with ExitStack() as undo:
        undo.callback(patching.before(unet, calls.cut, with_kwargs=True, first=True))
        undo.callback(patching.after(unet, calls.join))
        yield


class _Calls:
    """The two hooks of `windowed`: the call that arrives goes on with the first window, and when its output is there
    the others follow."""

    def __init__(self, arrangement: Arrangement) -> None:
        self.arrangement = arrangement
        self.inside = False
        self.given: tuple[Any, int, list[Window], list[tuple[float, ...]]] | None = None

    def cut(self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.inside:
            return None
        batch = unet_call.batch(args, kwargs)
        unet_call.check_clips(batch, self.arrangement.frames)
        self.arrangement.pause()
        windows = self.arrangement.begin(unet_call.time(args, kwargs))
        shares = [(1.0,) * len(windows[0])] if len(windows) == 1 else self.arrangement.shares_of(windows)
        for hear in self.arrangement.listeners:
            hear(args, kwargs, batch)
        # Of more processes than windows the last ones compute one for nothing: a call cannot be left out from here.
        first = min(self.arrangement.sharing.rank, len(windows) - 1)
        self.arrangement.take(windows[first], shares[first])
        self.given = (args, kwargs), batch, windows, shares
        rows = self.arrangement.rows(batch, self.arrangement.together)
        if len(windows) == 1 and rows == list(range(batch)):
            self.given = None
            settled = settle(kwargs, Rows(rows))
            return None if settled is None else (args, settled)
        return take_call(args, kwargs, Rows(rows), batch)

    def join(self, unet: nn.Module, args: Any, output: Any) -> Any:
        if self.inside or self.given is None:
            return None
        (inputs, batch, windows, shares), self.given = self.given, None
        cut = self.arrangement.windows
        ahead = partial(self.arrangement.ahead, "shares", cut, cut.shares)
        average = Average(batch, unet_call.latents(*inputs).device, output, ahead)
        ready = [output]  # of the call that has just ended

        def part(number: int) -> Part:
            self.arrangement.take(windows[number], shares[number])
            together = self.arrangement.together
            rows = Rows(self.arrangement.rows(batch, together))
            predicted = ready.pop() if ready else self._call(unet, inputs, rows, batch)
            return average.part(predicted, rows, shares[number], len(together))

        self.inside = True
        try:
            for found in self.arrangement.sharing.map(part, range(len(windows))):
                average.add_part(found)
        finally:
            self.inside = False
        return average.result()

    def _call(self, unet: nn.Module, inputs: Any, rows: Rows, batch: int) -> Any:
        self.arrangement.pause()
        args, kwargs = take_call(inputs[0], inputs[1], rows, batch)
        return unet(*args, **kwargs)


class _Continuation:
    """The forward hook that lets a temporal layer continue the output of a layer of the UNet."""

    def __init__(
        self,
        unet: nn.Module,
        layer: TemporalTransformer,
        arrangement: Arrangement,
        factors: Callable[[Tensor], Factors],
    ) -> None:
        self.unet = unet
        self.layer = layer
        self.cast = CastModule(layer)
        self.arrangement = arrangement
        self.factors = factors

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        if self.arrangement.still or module in self.arrangement.aside:
            return None
        if isinstance(output, Tensor):
            return self._run(output)
        if isinstance(output, tuple):
            return (self._run(output[0]), *output[1:])
        return type(output)(sample=self._run(output.sample))

    def _run(self, x: Tensor) -> Tensor:
        layer = self._current()

        def run(rows: Tensor, frames: int, fusion: Fusion | None) -> Tensor:
            effect, scale = self.factors(rows)
            if not isinstance(effect, Tensor) and effect == 0:
                return rows
            moved: Tensor = layer(rows, frames, effect, fusion, scale)
            return moved

        return move(x, self.arrangement, run)

    def _current(self) -> CastModule:
        layer = stand_ins(self.unet).get(self.layer, self.layer)
        if layer is not self.cast.module:
            self.cast = CastModule(layer)
        return self.cast


def _check_fit(found: sites.Sites, architecture: Architecture) -> None:
    wanted = {slot.name: slot.channels for slot in architecture.slots}
    optional = {"mid_block.motion_modules.0"} - wanted.keys()
    offered = {name: site.channels for name, site in found.by_slot.items() if name not in optional}
    if wanted != offered:
        raise MotionError(
            f"the {architecture.family.name} motion module ({sites.widths(wanted)}) does not fit "
            f"this checkpoint ({sites.widths(offered)}): choose a motion module made for it."
        )
