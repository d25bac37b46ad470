"""Inverted noise in a WebUI: before the host's sampler draws, it is gone backwards, from what frames begin with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import wraps
from typing import Any, NamedTuple

from torch import Tensor

from motion import patching
from motion.errors import MotionError
from motion.hosts.webui import progress
from motion.hosts.webui.backends.base import host_module, need, on_samplers
from motion.hosts.webui.first_passes.detour import schedule_of
from motion.hosts.webui.guidance import TIME_STEPS, Guidance
from motion.settings.lora_tags import without_tags
from motion.settings.tab import Tab
from motion.techniques.ddim_inversion import EVALUATIONS, invert

NO_REFINER = (None, "", "None", "none")


def check_inversion(p: Any, tab: Tab) -> None:
    """Raise MotionError for what inverted noise cannot be found in: a run through two checkpoints, and initial images
    that fade into noise."""
    if getattr(p, "refiner_checkpoint", None) not in NO_REFINER:
        raise MotionError("noise is inverted, which is done by one checkpoint: turn the refiner off, or choose another")
    if tab.fades:
        raise MotionError(
            "noise is inverted, and initial images that fade into noise have none of their own: let them all begin "
            "alike, or choose another noise"
        )


class Inversion:
    """Of the clips of one job: their first passes begin with the noise of what they would otherwise be noised.

    The host's own denoiser is asked for it, with all that is attached to its UNet, at a CFG scale of 1, by the words
    ``caption``; techniques stand aside, and so do masks. ``alphas``: the cumulative ones, ``[1000]``, by which the host
    samples.
    """

    def __init__(self, caption: str, guidance: Guidance, alphas: Tensor) -> None:
        self.caption, self.guidance, self.alphas = without_tags(caption), guidance, alphas

    def attach(self, p: Any, undo: ExitStack) -> None:
        """Let the samplers that the host makes for ``p`` begin so, until ``undo`` is closed. To the host's progress bar
        it is one more job for each clip."""
        if p.iteration == 0:
            progress.announce(p.n_iter, EVALUATIONS * p.steps)
        on_samplers(self._put, undo)

    def _put(self, sampler: Any) -> None:
        sample = sampler.sample_img2img

        def from_own_noise(p: Any, latents: Tensor, *args: Any, **kwargs: Any) -> Any:
            if getattr(p, "is_hr_pass", False):
                return sample(p, latents, *args, **kwargs)
            told = self._told(p, len(latents))
            with ExitStack() as undo:
                begun = self._begun(sampler, latents, told)
                undo.callback(patching.item(vars(sampler), "func", begun))
                return sample(p, latents, *args, **kwargs)

        sampler.sample_img2img = from_own_noise

    def _told(self, p: Any, rows: int) -> Any:
        """The caption as the host encodes prompts, for each row."""
        need("prompt_parser.SdConditioning", "prompt_parser.get_multicond_learned_conditioning")
        parser, model = host_module("prompt_parser"), host_module("shared").sd_model
        captions = parser.SdConditioning([self.caption] * rows, width=p.width, height=p.height)
        with host_module("devices").autocast():
            return parser.get_multicond_learned_conditioning(model, captions, p.steps)

    def _begun(self, sampler: Any, latents: Tensor, told: Any) -> Callable[..., Any]:
        """The sampler's loop, begun with the noise of ``latents``."""
        loop: Callable[..., Any] = sampler.func

        @wraps(loop)  # the host looks at what it takes
        def begun(model: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
            way = Way.of(kwargs, self.alphas)
            with ExitStack() as undo:
                undo.enter_context(self.guidance.aside())
                undo.callback(patching.item(vars(model), "mask", None))
                asked = {**kwargs["extra_args"], "cond": told, "cond_scale": 1.0}
                found = self._inverted(sampler, model, latents.to(x).float(), way, asked)
            model.step = 0
            self.guidance.arrangement.restart()
            host_module("shared").state.nextjob()
            return loop(model, found.to(x), *args, **kwargs)

        return begun

    def _inverted(self, sampler: Any, model: Any, latents: Tensor, way: Way, asked: Mapping[str, Any]) -> Tensor:
        """What the loop would come to ``latents`` from."""

        def predict(noisy: Tensor, step: int) -> Tensor:
            model.step = 0  # of prompts and refiners; the host counts calls
            level = way.levels[step]
            x = noisy * (1 + level**2) ** 0.5
            predicted = model(x * way.scales[step], way.told[step] * x.new_ones(len(x)), **asked).float()
            sampler.callback_state({"i": step})
            return predicted if way.of_noise else (x - predicted) / level

        *_, noisy = invert(latents, way.alphas, predict, EVALUATIONS)
        return noisy * (1 + way.levels[-1] ** 2) ** 0.5 * way.scales[-1]


class Way(NamedTuple):
    """A loop of the host's gone backwards, step by step: the noise level, what latents are scaled by there, and what
    the denoiser is told of it."""

    levels: list[float]
    scales: list[float]
    told: list[float]
    alphas: list[float]
    """The cumulative ones of the finished clip, then of the steps."""
    of_noise: bool
    """Whether the denoiser predicts the noise, and not the finished clip."""

    @classmethod
    def of(cls, kwargs: Mapping[str, Any], alphas: Tensor) -> Way:
        """Of what a loop is given."""
        times, levels, scales = (found[::-1] for found in schedule_of(kwargs, alphas))
        of_noise = TIME_STEPS in kwargs
        end = float(alphas[int(kwargs[TIME_STEPS][0])]) if of_noise else 1.0
        found = [end, *(1 / (1 + level**2) for level in levels)]
        return cls(levels, scales, times if of_noise else levels, found, of_noise)
