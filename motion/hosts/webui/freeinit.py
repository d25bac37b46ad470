"""FreeInit in a WebUI: the first pass over a clip is drawn several times, each from what came before."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor

from motion import patching
from motion.errors import MotionError
from motion.hosts.webui.base import host_module
from motion.sampling.arrangement import Arrangement
from motion.settings.settings import Movement
from motion.techniques.freeinit import next_noise


def check(p: Any, clip: Movement) -> None:
    """Raise MotionError where a clip cannot be drawn again: it must begin with noise, and end with its own model."""
    if clip.freeinit == 1:
        return
    if hasattr(p, "init_images"):
        raise MotionError(f"FreeInit is {clip.freeinit}: clips that begin with an image are drawn once, set it to 1")
    if getattr(p, "refiner_checkpoint", None) not in (None, "", "None", "none"):
        raise MotionError(f"FreeInit is {clip.freeinit}: turn the refiner off, or set FreeInit to 1")


def draw_again(p: Any, clip: Movement, alpha: float, arrangement: Arrangement, undo: ExitStack) -> None:
    """Let the samplers that the host makes draw the clip of ``p`` as often as it says, until ``undo`` is closed.

    Each round is one more job to the host's progress bar. Hires fix goes on from the last one.
    """
    samplers = host_module("sd_samplers")
    create = samplers.create_sampler

    def made(*args: Any, **kwargs: Any) -> Any:
        sampler = create(*args, **kwargs)
        sampler.sample = _rounds(sampler.sample, clip, alpha, arrangement)
        return sampler

    if p.iteration == 0:
        _announce(p.n_iter * (clip.freeinit - 1), p.steps)
    undo.callback(patching.item(vars(samplers), "create_sampler", made))


def _rounds(sample: Callable[..., Any], clip: Movement, alpha: float, arrangement: Arrangement) -> Callable[..., Any]:
    """What stands in for a sampler's ``sample``, which is for first passes only."""

    def rounds(p: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        state = host_module("shared").state
        for number in range(1, clip.freeinit):
            drawn = sample(p, x, *args, **kwargs)
            if state.interrupted or state.skipped:
                return drawn
            fresh, kind = partial(_fresh, x), clip.freeinit_filter
            x = next_noise(drawn.float(), x.float(), fresh, p.seeds[0], number, alpha, kind).to(x)
            arrangement.restart()
            state.nextjob()
        return sample(p, x, *args, **kwargs)

    return rounds


def _fresh(x: Tensor, seed: int) -> Tensor:
    """Noise for all frames from one stream, by the host's own kind of generator."""
    rng = host_module("rng")
    generator = rng.create_generator(seed)
    noise = torch.stack([rng.randn_without_seed(x.shape[1:], generator=generator) for _ in x])
    return noise.to(x.device, torch.float32)


def _announce(rounds: int, steps: int) -> None:
    """Tell the page's progress bar and the console's of more rounds of so many steps."""
    shared = host_module("shared")
    shared.state.job_count += rounds
    bar = getattr(shared.total_tqdm, "_tqdm", None)
    if bar is not None:  # else it will count the jobs itself
        shared.total_tqdm.updateTotal(bar.total + rounds * steps)
