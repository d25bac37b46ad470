"""The scope in which a UNet moves: `attach` and its undo."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from motion import patching
from motion.arrangement import Arrangement, Average, in_parts, taken
from motion.errors import MotionError
from motion.network import sites
from motion.network.architecture import Architecture
from motion.network.model import MotionModel
from motion.network.temporal import TemporalTransformer, over_frames, per_frame
from motion.windows import Window, Windows


@contextmanager
def attach(
    unet: nn.Module,
    model: MotionModel,
    frames: int = 16,
    scale: float = 1.0,
    arrangement: Arrangement | None = None,
) -> Iterator[None]:
    """Within the scope every forward of ``unet`` sees its batch as clips of ``frames``.

    The batch is ``(groups frames)``, the frames of a clip side by side; any number of groups. An ``arrangement`` says
    where it is otherwise, and how clips that are longer than the model reaches are cut into windows. ``scale``
    multiplies what the layers add; at 0 the UNet's output is bit-equal to the plain one. ``unet`` is recognised by its
    structure (ldm, sgm, Forge, ldm_patched, diffusers), and is on exit exactly as it was found.

    ``model`` is neither moved nor cast nor owned by the UNet. Its layers run as they are where their device and
    dtype are those of the data; else each layer runs as a copy that follows the data and lives as long as the
    scope. Layers that are being trained are cast within the graph instead, so gradients reach ``model``.

    Raises MotionError if the UNet's layout is unknown or does not fit the model, if it is attached already, if a
    window is out of the model's range, and, before anything is computed, for a batch that is no multiple of
    ``frames``.
    """
    arrangement = arrangement or Arrangement(Windows(frames))
    if arrangement.frames != frames:
        raise MotionError(f"the arrangement is of {arrangement.frames} frames, not of {frames}: give both the same")
    found = sites.find(unet)
    _check_fit(unet, found, model.architecture)
    model.architecture.check_frames(arrangement.windows.size)
    with windowed(unet, arrangement), ExitStack() as undo:
        if scale != 0:
            if model.architecture.family.resnet_norm_over_frames:
                for norm in found.resnet_norms:
                    undo.callback(patching.before(norm, _join(arrangement)))
                    undo.callback(patching.after(norm, lambda _, args, output: per_frame(output)))
            _part(found, arrangement, model.architecture.family.resnet_norm_over_frames, undo)
            for name, layer in model.slots.items():
                undo.callback(patching.after(found.by_slot[name].layer, _Continuation(layer, arrangement, scale)))
        yield


def _part(found: sites.Sites, arrangement: Arrangement, norms_see_all: bool, undo: ExitStack) -> None:
    """Let the spatial layers take a few frames at a time, where all would go through them together."""
    most = arrangement.rows_at_once
    if most is None or arrangement.windows.engine != "attention" or not arrangement.windows.cut:
        return
    for layer in (*found.transformers, *(() if norms_see_all else found.resblocks)):
        undo.callback(patching.item(vars(layer), "forward", in_parts(layer.forward, most)))


@contextmanager
def windowed(unet: nn.Module, arrangement: Arrangement) -> Iterator[None]:
    """Within the scope each call of ``unet`` becomes one for each window of ``arrangement``.

    Whatever has as many rows as the batch is cut by frame number, here and nowhere else; hooks that others put on the
    UNet or its layers see one window at a time and find its frames in ``arrangement.frame_numbers``. What is predicted
    where windows overlap is averaged. The windows take turns, so the memory is that of one of them.
    """
    calls = _Calls(arrangement)
    if any(isinstance(getattr(hook, "__self__", None), _Calls) for hook in unet._forward_pre_hooks.values()):
        raise MotionError(f"this {type(unet).__name__} is already attached: leave the other motion.attach first.")
    with ExitStack() as undo:
        undo.callback(patching.before(unet, calls.cut, with_kwargs=True))
        undo.callback(patching.after(unet, calls.join))
        yield


class _Calls:
    """The two hooks of `windowed`: the call that arrives goes on with the first window, and when its output is there
    the others follow."""

    def __init__(self, arrangement: Arrangement) -> None:
        self.arrangement = arrangement
        self.inside = False
        self.given: tuple[Any, int, list[Window]] | None = None

    def cut(self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.inside:
            return None
        batch = _batch(args, kwargs)
        if batch % self.arrangement.frames:
            raise MotionError(
                f"a batch of {batch} is no multiple of {self.arrangement.frames} frames: "
                "give every clip all its frames, side by side."
            )
        windows = self.arrangement.begin(_time(args, kwargs))
        self.arrangement.together = windows[0]
        self.given = (args, kwargs), batch, windows
        rows = self.arrangement.rows(batch, windows[0])
        if rows == list(range(batch)):
            self.given = None
            return None
        return taken((args, kwargs), rows, batch)

    def join(self, unet: nn.Module, args: Any, output: Any) -> Any:
        if self.inside or self.given is None:
            return None
        (inputs, batch, windows), self.given = self.given, None
        average, groups = Average(batch, _input(*inputs).device), batch // self.arrangement.frames
        shares = self.arrangement.windows.shares(windows)
        self.inside = True
        try:
            for number, window in enumerate(windows):
                self.arrangement.together = window
                rows = self.arrangement.rows(batch, window)
                if number:
                    args, kwargs = taken(inputs, rows, batch)
                    output = unet(*args, **kwargs)
                result = average.add(output, rows, shares[number] * groups)
        finally:
            self.inside = False
        return result


def _input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a UNet is to denoise, wherever its host puts it."""
    return args[0] if args else kwargs.get("x", kwargs.get("sample"))


def _batch(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    x = _input(args, kwargs)
    return len(x) if isinstance(x, Tensor) else 0


def _time(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[1] if len(args) > 1 else kwargs.get("timesteps", kwargs.get("timestep"))


def _join(arrangement: Arrangement) -> Callable[..., Any]:
    return lambda _, args: (over_frames(args[0], len(arrangement.together)), *args[1:])


class _Continuation:
    """The forward hook that lets a temporal layer continue the output of a layer of the UNet."""

    def __init__(self, layer: TemporalTransformer, arrangement: Arrangement, scale: float) -> None:
        self.layer = self.follower = layer
        self.arrangement = arrangement
        self.scale = scale

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        if isinstance(output, Tensor):
            return self._run(output)
        if isinstance(output, tuple):
            return (self._run(output[0]), *output[1:])
        return type(output)(sample=self._run(output.sample))

    def _run(self, x: Tensor) -> Tensor:
        how = len(self.arrangement.together), self.scale, self.arrangement.fusion(x)
        if not _differs(self.layer, x):
            return self.layer(x, *how)
        if torch.is_grad_enabled() and self.layer.proj_in.weight.requires_grad:
            weights = {name: weight.to(x) for name, weight in self.layer.named_parameters()}
            return functional_call(self.layer, weights, (x, *how))
        return self._following(x)(x, *how)

    def _following(self, x: Tensor) -> TemporalTransformer:
        if _differs(self.follower, x):
            # Plain tensors even when the host samples in inference mode: the scope may outlive that.
            with torch.inference_mode(False), torch.no_grad():
                self.follower = copy.deepcopy(self.layer).requires_grad_(False).to(x)
        return self.follower


def _differs(layer: TemporalTransformer, x: Tensor) -> bool:
    weight = layer.proj_in.weight
    return weight.device != x.device or weight.dtype != x.dtype


def _check_fit(unet: nn.Module, found: sites.Sites, architecture: Architecture) -> None:
    wanted = {slot.name: slot.channels for slot in architecture.slots}
    optional = {"mid_block.motion_modules.0"} - wanted.keys()
    offered = {name: site.channels for name, site in found.by_slot.items() if name not in optional}
    if wanted != offered:
        raise MotionError(
            f"the {architecture.family.name} motion module ({_widths(wanted)}) does not fit "
            f"this {type(unet).__name__} ({_widths(offered)}): choose a module made for this base model."
        )


def _widths(channels: dict[str, int]) -> str:
    levels = {name.split(".")[1]: width for name, width in channels.items() if name.startswith("down_blocks")}
    return f"channels {'/'.join(map(str, levels.values()))} in {len(channels)} layers"
