"""Techniques that draw a clip several times, in a WebUI: its first pass, each round from what came before."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from motion import patching
from motion.hosts.webui.backends.base import fresh_noise, host_module
from motion.sampling.arrangement import Arrangement
from motion.techniques.technique import Round, Techniques


def draw_again(p: Any, techniques: Techniques, alpha: float, arrangement: Arrangement, undo: ExitStack) -> None:
    """Let the samplers that the host makes draw the clip of ``p`` as often as they say, until ``undo`` is closed.

    Each round is one more job to the host's progress bar. Hires fix goes on from the last one.
    """
    samplers = host_module("sd_samplers")
    create = samplers.create_sampler

    def made(*args: Any, **kwargs: Any) -> Any:
        sampler = create(*args, **kwargs)
        sampler.sample = _rounds(sampler.sample, techniques, alpha, arrangement)
        return sampler

    if p.iteration == 0:
        _announce(p.n_iter * (techniques.rounds - 1), p.steps)
    undo.callback(patching.item(vars(samplers), "create_sampler", made))


def _rounds(
    sample: Callable[..., Any], techniques: Techniques, alpha: float, arrangement: Arrangement
) -> Callable[..., Any]:
    """What stands in for a sampler's ``sample``, which is for first passes only."""

    def rounds(p: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        state = host_module("shared").state
        for number in range(1, techniques.rounds):
            drawn = sample(p, x, *args, **kwargs)
            if state.interrupted or state.skipped:
                return drawn
            ended = Round(number, drawn.float(), x.float(), alpha, p.seeds[0], partial(fresh_noise, x))
            x = techniques.again(ended).to(x)
            arrangement.restart()
            state.nextjob()
        return sample(p, x, *args, **kwargs)

    return rounds


def _announce(rounds: int, steps: int) -> None:
    """Tell the page's progress bar and the console's of more rounds of so many steps."""
    shared = host_module("shared")
    shared.state.job_count += rounds
    bar = getattr(shared.total_tqdm, "_tqdm", None)
    if bar is not None:  # else it will count the jobs itself
        shared.total_tqdm.updateTotal(bar.total + rounds * steps)
