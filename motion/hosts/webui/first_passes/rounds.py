"""Techniques that draw a clip several times, in a WebUI: its first pass, each round from what came before."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from motion.hosts.webui.backends.base import fresh_noise, host_module, on_samplers
from motion.hosts.webui.progress import announce
from motion.sampling.arrangement import Arrangement
from motion.techniques.technique import Round, Techniques


def draw_again(p: Any, techniques: Techniques, alpha: float, arrangement: Arrangement, undo: ExitStack) -> None:
    """Let the samplers that the host makes draw the clip of ``p`` as often as they say, until ``undo`` is closed.

    Each round is one more job to the host's progress bar. Hires fix goes on from the last one.
    """
    method, place = ("sample_img2img", 1) if hasattr(p, "init_images") else ("sample", 0)

    def put(sampler: Any) -> None:
        setattr(sampler, method, _rounds(sampler, getattr(sampler, method), place, techniques, alpha, arrangement))

    if p.iteration == 0:
        announce(p.n_iter * (techniques.rounds - 1), p.steps)
    on_samplers(put, undo)


def _rounds(
    sampler: Any,
    sample: Callable[..., Any],
    place: int,
    techniques: Techniques,
    alpha: float,
    arrangement: Arrangement,
) -> Callable[..., Any]:
    """What stands in for a ``sampler``'s method ``sample``, whose noise has that place behind ``p``; it is for first
    passes only."""

    def rounds(p: Any, *args: Any, **kwargs: Any) -> Any:
        state = host_module("shared").state
        before, noise, told = args[:place], args[place], args[place + 1 :]
        for number in range(1, techniques.rounds):
            drawn = sample(p, *before, noise, *told, **kwargs)
            if state.interrupted or state.skipped:
                return drawn
            draw = partial(fresh_noise, noise)
            ended = Round(number, drawn.float(), noise.float(), alpha, p.seeds[0], draw, arrangement.windows)
            noise = techniques.again(ended).to(noise)
            if getattr(p, "refiner_checkpoint_info", None) is not None:
                told = (*_first_model(p, sampler), *told[2:])
            arrangement.restart()
            state.nextjob()
        return sample(p, *before, noise, *told, **kwargs)

    return rounds


def _first_model(p: Any, sampler: Any) -> tuple[Any, Any]:
    """Put the checkpoint in place that a pass begins with, where the refiner has left its own; prompt and negative
    prompt by it."""
    sd_models = host_module("sd_models")
    reload = getattr(sd_models, "forge_model_reload", None) or sd_models.reload_model_weights
    reload()
    if not getattr(p, "disable_extra_networks", False):
        host_module("extra_networks").activate(p, p.extra_network_data)
    p.setup_conds()
    sampler.model_wrap_cfg.update_inner_model()
    prompt, negative = p.get_conds()
    return prompt, negative
