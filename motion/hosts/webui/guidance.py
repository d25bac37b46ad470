"""Techniques in a WebUI: what they make of each evaluation of the network, whichever host it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from motion import patching
from motion.errors import MotionError
from motion.hosts.regions import Regions
from motion.sampling.arrangement import Arrangement
from motion.techniques.technique import Input, Moment, Pass, Pictures, Step, Techniques

TIME_STEPS = "timesteps"
SCHEDULES = ("sigmas", "sigma_sched", TIME_STEPS)
"""The names by which the hosts hand a sampler's function its noise levels, or its time steps."""
WITHOUT_SCHEDULE = ("DPM fast", "DPM adaptive")
"""The samplers that choose their noise levels on the way."""


def check_samplers(techniques: Techniques, names: Sequence[str | None]) -> None:
    """Raise MotionError for a technique that must know the step, with a sampler that has no fixed ones."""
    for name in set(WITHOUT_SCHEDULE).intersection(names):
        for technique in techniques.ask("needs_schedule"):
            raise MotionError(f"{name} has no fixed steps: choose another sampler, or turn {technique.label} off")


def check_step_noise(kind: str, names: Sequence[str | None]) -> None:
    """Raise MotionError for noise in steps that frames are to share, with a sampler that asks nobody for its noise."""
    for name in (name for name in names if name and "SDE" in name and kind != "own"):
        raise MotionError(f"{name} draws its own noise in each step: choose another sampler, or Own for noise in steps")


class Guidance:
    """Of the clips of one job, of which ``kept`` frames each are finished. Latents and predictions are k-diffusion's.

    ``given``: latents ``[c, h, w]`` of the frames that are given as pictures, in the size of the pass. ``pictures``:
    the host's autoencoder. ``regions``: where the parts of a prompt count that AND joins; None: everywhere.
    """

    def __init__(
        self,
        techniques: Techniques,
        arrangement: Arrangement,
        kept: int,
        pictures: Pictures | None = None,
        regions: Regions | None = None,
    ) -> None:
        self.techniques = techniques
        self.arrangement = arrangement
        self.kept = kept
        self.pictures = pictures
        self.regions = regions
        self.given: dict[int, Tensor] = {}
        self._schedule: Tensor | None = None
        self._levels: Tensor | None = None
        self._alphas: Tensor | None = None
        """By which time steps are noise levels, where the schedule has those."""

    @property
    def acts(self) -> bool:
        """Whether there is anything to do in a step."""
        return bool(self.regions or self.techniques.have("scales") or self.techniques.have("edit"))

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Within, predictions are the network's own, of one prompt for each frame."""
        arrangement = self.arrangement
        before = self.techniques, self.regions, arrangement.prompts
        self.techniques, self.regions, arrangement.prompts = Techniques(), None, 1
        try:
            yield
        finally:
            self.techniques, self.regions, arrangement.prompts = before

    def watch(self, sampler: Any, alphas: Tensor, undo: ExitStack) -> None:
        """Learn from ``sampler``, until ``undo`` is closed, its noise levels and where it is, if that is asked for.

        ``alphas [1000]``: the cumulative ones of the model.
        """
        if self.techniques.ask("needs_schedule"):
            undo.callback(patching.item(vars(sampler), "func", self._note_levels(sampler.func, alphas)))
            undo.callback(patching.before(sampler.model_wrap_cfg, self._note, with_kwargs=True))

    def scales(self, cfg: float) -> list[float]:
        """The CFG scale of each frame."""
        return list(self.techniques.scales(self._moment(), cfg))

    def see(self, x: Tensor, t: Tensor, frames: Sequence[int]) -> tuple[Tensor, Tensor]:
        """What the UNet sees instead of a call's latents and time steps; see `attach_inputs`."""
        return self.techniques.see(Input(x, t, frames, self.given))[:2]

    def edit(
        self, x: Tensor, sigma: Tensor, x0: Tensor, by_text: Mapping[str, Tensor], predict: Callable[[str], Tensor]
    ) -> Tensor:
        """The guided prediction ``x0`` as the sampler is to take it. ``predict`` makes another for a text, by the UNet
        as it then is."""

        def further(wanted: Pass) -> Tensor:
            with self.arrangement.further(wanted.text, wanted.motion):
                return predict(wanted.text)

        return self.techniques.edit(Step(self._moment(), x, sigma, by_text, further, self.given, self.pictures), x0)

    def _moment(self) -> Moment:
        frames, windows = self.arrangement.frames, self.arrangement.windows
        if self._schedule is None or self._levels is None:
            return Moment(frames, self.kept)
        above = self._schedule > self._levels.flatten()[0].to(self._schedule) * (1 + 1e-4)
        step, steps = int(above.sum()), len(self._schedule) - 1
        following = self._schedule.sort(descending=True).values[min(step + 1, steps)]
        if self._alphas is not None:
            following = level(self._alphas, following)
        return Moment(frames, self.kept, step, steps, float(following), windows.size if windows.cut else 0)

    def _note_levels(self, function: Callable[..., Any], alphas: Tensor) -> Callable[..., Any]:
        """``function`` of a sampler, with its noise levels noted."""

        @wraps(function)  # the host looks at its signature
        def noted(*args: Any, **kwargs: Any) -> Any:
            named = next((name for name in SCHEDULES if name in kwargs), None)
            self._schedule = None if named is None else torch.as_tensor(kwargs[named]).cpu()
            self._alphas = alphas.cpu() if named == TIME_STEPS else None
            return function(*args, **kwargs)

        return noted

    def _note(self, _: Any, args: tuple[Any, ...], kwargs: Any) -> None:
        self._levels = args[1]


def level(alphas: Tensor, t: Tensor) -> Tensor:
    """The noise levels at time steps, also between whole ones, where UniPC has the logarithm of alpha linear."""
    logarithms, last = alphas.double().log(), len(alphas) - 1
    t = t.double().clamp(0, last).to(logarithms.device)
    below = t.floor().long()
    alpha = torch.lerp(logarithms[below], logarithms[(below + 1).clamp(max=last)], t - below).exp()
    return ((1 - alpha) / alpha).sqrt()
