"""The Forge family's ControlNets on a clip in windows: each call of the UNet has the residuals of its own frames.

The family runs ControlNets before the UNet, for the whole batch: of a long clip they would need more memory than all
of its windows, and nobody knows yet what of the UNet is computed in the step. Here the sampler is given a stand-in,
whose residuals are made when a call of the UNet asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from motion import patching
from motion.hosts.webui.controlnet.cached import let_stand_aside
from motion.sampling.arrangement import Arrangement
from motion.sampling.rows import OPTIONS, Rows, take_call

MADE_OF_HINTS = ("cond_hint", "control_input")
"""What a control keeps of its hints from call to call, in the clip's size or encoded."""


def deferring(arrangement: Arrangement, undo: ExitStack) -> Callable[..., Any]:
    """A modifier of conditions, for the patcher's `add_conditioning_modifier`: whatever controls a prompt is put
    `_DeferredControl`, until ``undo`` is closed. The prompts of a call must have one and the same control, else the
    host makes several calls of it."""
    found: dict[int, _DeferredControl] = {}
    levels: list[Tensor] = []
    """The noise level of the step in progress."""

    def modify(model: Any, x: Any, timestep: Any, uncond: Any, cond: Any, *others: Any) -> Any:
        levels[:] = [timestep]
        for prompt in (*cond, *(uncond or ())):
            control = prompt.get("control")
            if control is None or isinstance(control, _DeferredControl):
                continue
            if id(control) not in found:
                found[id(control)] = _DeferredControl(control)
                if arrangement.cached:
                    for linked in _linked(control):
                        _follow_cache(linked, levels, arrangement, undo)
            prompt["control"] = found[id(control)]
        return model, x, timestep, uncond, cond, *others

    return modify


def _follow_cache(control: Any, levels: list[Tensor], arrangement: Arrangement, undo: ExitStack) -> None:
    """Let the network of ``control`` stand aside with the UNet, and the steps in which it starts or ends be whole."""
    let_stand_aside(getattr(control, "control_model", None), arrangement, undo)
    if tuple(control.timestep_percent_range) != (0.0, 1.0):

        def acts() -> bool:
            start, end = control.timestep_range
            return bool(end <= levels[0].flatten()[0] <= start)  # the host waits for it as well

        arrangement.states.append(acts)
        undo.callback(arrangement.states.remove, acts)


@dataclass
class _DeferredControl:
    """Stands in for the first of the host's linked controls, and is linked to it: the host tells each of the chain."""

    previous_controlnet: Any
    transformer_options: dict[str, Any] = field(default_factory=dict)

    def get_control(self, x: Tensor, t: Tensor, cond: dict[str, Any], prompts: int, *options: Any) -> _Residuals:
        """The host asks for the residuals of a batch of ``prompts`` clips; reForge hands its ``options`` over, too."""
        # A copy: reForge puts what it is given here among the very conditions that it has asked with.
        return _Residuals(self.previous_controlnet, x, t, dict(cond), prompts, bool(options))


@dataclass(frozen=True)
class _Residuals:
    """The residuals of a call that is still to come; see `motion.sampling.rows.Deferred`."""

    control: Any
    x: Tensor
    t: Tensor
    cond: dict[str, Any]
    prompts: int
    takes_options: bool

    def of_rows(self, rows: Rows) -> Any:
        """The host's residuals for these rows, which are the same frames of each prompt."""
        batch = len(self.x)
        if rows.numbers == list(range(batch)):
            return self._of_all()
        _, cond = take_call((), self.cond, rows, batch)
        of_one_prompt = rows.numbers[: len(rows.numbers) // self.prompts]
        frames = [row % (batch // self.prompts) for row in of_one_prompt]
        options = cond.get(OPTIONS, {})
        with ExitStack() as undo:
            for control in _linked(self.control):
                for name, value in _of_frames(control, frames, options).items():
                    undo.callback(patching.restore_later(vars(control), name))
                    setattr(control, name, value)
            told = (options,) if self.takes_options else ()
            return self.control.get_control(rows.of(self.x), rows.of(self.t), cond, self.prompts, *told)

    def _of_all(self) -> Any:
        told = (self.cond[OPTIONS],) if self.takes_options else ()
        return self.control.get_control(self.x, self.t, self.cond, self.prompts, *told)


def _linked(control: Any) -> Iterator[Any]:
    while control is not None:
        yield control
        control = control.previous_controlnet


def _of_frames(control: Any, frames: list[int], options: dict[str, Any]) -> dict[str, Any]:
    """What ``control`` holds otherwise for a call of these ``frames``: its hints, one for each frame or turning round
    where there are fewer, and the weights of frames."""
    changed: dict[str, Any] = {"transformer_options": options}
    hints, masks = control.cond_hint_original, getattr(control, "advanced_mask_weighting", None)
    weights = getattr(control, "advanced_frame_weighting", None)
    if isinstance(hints, Tensor) and len(hints) > 1:
        changed["cond_hint_original"] = hints[[frame % len(hints) for frame in frames]]
        changed.update({name: None for name in MADE_OF_HINTS if hasattr(control, name)})
    if isinstance(masks, Tensor) and len(masks) > 1:
        changed["advanced_mask_weighting"] = masks[[frame % len(masks) for frame in frames]]
    if weights is not None:
        changed["advanced_frame_weighting"] = [weights[frame] for frame in frames]
    return changed
