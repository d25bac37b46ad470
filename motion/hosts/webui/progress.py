"""The host's progress bar within a step: a step of a long clip is many calls of the UNet, and may take minutes."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from torch import nn

from motion import patching
from motion.hosts.webui.backends.base import host_module

MOST = 0.95
"""Of a step that turns out to have more parts than the one before."""


class StepProgress:
    """Tells the host how far a step is, by the parts that are computed in it: windows, or temporal layers.

    How many there are is known from the step before, as the host may make any number of calls in one; ``parts`` is the
    guess for the first. The host takes its count of steps for a whole number elsewhere (previews), so between two calls
    of the UNet it finds that.
    """

    def __init__(self, parts: int) -> None:
        self.parts, self.done, self.ended = parts, 0, 0
        self.own: Any = None
        """The host's count while it is changed; most hosts count a step behind."""

    def part_begins(self) -> None:
        """Another window, or another temporal layer, is about to be computed."""
        state = host_module("shared").state
        if self.own is None:
            self.own = state.sampling_step
        steps = self.ended if self.ended - self.own in (0, 1) else self.own  # else a pass that begins
        state.sampling_step = steps + min(self.done / self.parts, MOST)
        self.done += 1

    def call_ends(self, *_: Any) -> None:
        """A call of the UNet is over."""
        if self.own is not None:
            host_module("shared").state.sampling_step = self.own
            self.own = None

    def step_ends(self, number: int) -> None:
        """The sampler has been given what it needs for that step."""
        self.parts, self.done, self.ended = max(self.done, 1), 0, number + 1

    def follow_unet(self, unet: nn.Module, undo: ExitStack) -> None:
        """Hear of the calls of ``unet``, until ``undo`` is closed."""
        undo.callback(self.call_ends)
        undo.callback(patching.after(unet, self.call_ends))

    def follow_sampler(self, sampler: Any) -> None:
        """Hear of the steps of one of the host's samplers."""
        tell = sampler.callback_state

        def hear(step: Any) -> Any:
            self.step_ends(step["i"])
            return tell(step)

        sampler.callback_state = hear


def announce(jobs: int, steps: int) -> None:
    """Tell the page's progress bar and the console's of more jobs of so many steps."""
    shared = host_module("shared")
    shared.state.job_count += jobs
    bar = getattr(shared.total_tqdm, "_tqdm", None)
    if bar is not None:  # else it will count the jobs itself
        shared.total_tqdm.updateTotal(bar.total + jobs * steps)
