"""The scope in which a UNet moves: `attach` and its undo."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from motion import passes, patching
from motion.arrangement import Arrangement, reordered, restored
from motion.errors import MotionError
from motion.following import Follower
from motion.network import sites
from motion.network.architecture import Architecture
from motion.network.model import MotionModel
from motion.network.temporal import TemporalTransformer, over_frames, per_frame


@contextmanager
def attach(
    unet: nn.Module,
    model: MotionModel,
    frames: int = 16,
    scale: float = 1.0,
    arrangement: Arrangement | None = None,
) -> Iterator[None]:
    """Within the scope every forward of ``unet`` sees its batch as clips of ``frames``.

    The batch is ``(groups frames)``, the frames of a clip side by side; any number of groups; an ``arrangement`` says
    where it is otherwise. ``scale`` multiplies what the layers add; at 0 the UNet's output is bit-equal to the plain
    one. ``unet`` is recognised by its structure (ldm, sgm, Forge, ldm_patched, diffusers), and is on exit exactly as
    it was found.

    ``model`` is neither moved nor cast nor owned by the UNet: each of its layers is run by a `Follower`.

    Raises MotionError if the UNet's layout is unknown or does not fit the model, if it is attached already, if
    ``frames`` is out of the model's range, and, before anything is computed, for a batch that is no multiple of it.
    """
    found = sites.find(unet)
    _check_fit(unet, found, model.architecture)
    _check_frames(frames, model.architecture)
    if any(isinstance(hook, _BatchGuard) for hook in unet._forward_pre_hooks.values()):
        raise MotionError(f"this {type(unet).__name__} is already attached: leave the other motion.attach first.")
    with ExitStack() as undo:
        undo.callback(patching.before(unet, _BatchGuard(frames), with_kwargs=True))
        if scale != 0:
            if model.architecture.family.resnet_norm_over_frames:
                for norm in found.resnet_norms:
                    undo.callback(patching.before(norm, lambda _, args: (over_frames(args[0], frames), *args[1:])))
                    undo.callback(patching.after(norm, lambda _, args, output: per_frame(output)))
            for name, layer in model.slots.items():
                undo.callback(patching.after(found.by_slot[name].layer, _Continuation(layer, frames, scale)))
        if arrangement is not None:
            _arrange(unet, arrangement, undo)
        yield


def _arrange(unet: nn.Module, arrangement: Arrangement, undo: ExitStack) -> None:
    """Put the rows of each batch in order on the way in, and back on the way out.

    The way in comes first of all, so that a control attached earlier sees the rows in order, too.
    """
    order: list[int] = []

    def sort(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        order[:] = arrangement.next_order(passes.batch(args, kwargs))
        return None if order == sorted(order) else reordered((args, kwargs), order)

    def sort_back(_: nn.Module, args: Any, output: Any) -> Any:
        return None if order == sorted(order) else restored(output, order)

    undo.callback(patching.before(unet, sort, with_kwargs=True, first=True))
    undo.callback(patching.after(unet, sort_back))


class _BatchGuard:
    """Refuses a batch that is not made of whole clips; its presence marks a UNet as attached."""

    def __init__(self, frames: int) -> None:
        self.frames = frames

    def __call__(self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        passes.check_clips(passes.batch(args, kwargs), self.frames)


class _Continuation:
    """The forward hook that lets a temporal layer continue the output of a layer of the UNet."""

    def __init__(self, layer: TemporalTransformer, frames: int, scale: float) -> None:
        self.layer = Follower(layer)
        self.frames = frames
        self.scale = scale

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        if isinstance(output, Tensor):
            return self._run(output)
        if isinstance(output, tuple):
            return (self._run(output[0]), *output[1:])
        return type(output)(sample=self._run(output.sample))

    def _run(self, x: Tensor) -> Tensor:
        x = self.layer(x, self.frames, self.scale)
        return x


def _check_frames(frames: int, architecture: Architecture) -> None:
    if not 1 <= frames <= architecture.max_frames:
        raise MotionError(
            f"{frames} frames do not fit this motion module: its position table allows 1 to {architecture.max_frames}."
        )


def _check_fit(unet: nn.Module, found: sites.Sites, architecture: Architecture) -> None:
    wanted = {slot.name: slot.channels for slot in architecture.slots}
    optional = {"mid_block.motion_modules.0"} - wanted.keys()
    offered = {name: site.channels for name, site in found.by_slot.items() if name not in optional}
    if wanted != offered:
        raise MotionError(
            f"the {architecture.family.name} motion module ({sites.widths(wanted)}) does not fit "
            f"this {type(unet).__name__} ({sites.widths(offered)}): choose a module made for this base model."
        )
