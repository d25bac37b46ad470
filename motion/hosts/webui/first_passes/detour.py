"""Techniques that go back on the way of a run, in a WebUI: the host's sampler draws in two parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial, wraps
from typing import Any

from torch import Tensor, nn

from motion import patching
from motion.hosts.webui.backends.base import fresh_noise, on_samplers
from motion.techniques.technique import Techniques, Turn


def go_back(techniques: Techniques, alphas: Tensor, undo: ExitStack) -> None:
    """Let the samplers that the host makes draw first passes so, until ``undo`` is closed.

    ``alphas`` are the cumulative ones, ``[1000]``, by which the host samples. Hires fix goes on from the result.
    """

    def put(sampler: Any) -> None:
        sampler.sample = _twice(sampler, techniques, alphas)

    on_samplers(put, undo)


def _twice(sampler: Any, techniques: Techniques, alphas: Tensor) -> Callable[..., Any]:
    """What stands in for a sampler's ``sample``, which is for first passes only."""
    sample = sampler.sample

    def twice(p: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        with ExitStack() as undo:
            in_parts = _in_parts(sampler, techniques, alphas, p.seeds[0])
            undo.callback(patching.item(vars(sampler), "func", in_parts))
            return sample(p, x[:1].repeat(len(x), *[1] * (x.ndim - 1)), *args, **kwargs)

    return twice


class _Reached(Exception):
    """The step begins before which a run goes back."""


def _in_parts(sampler: Any, techniques: Techniques, alphas: Tensor, seed: int) -> Callable[..., Any]:
    """The sampler's loop in two parts: one for the first frame's sake, and from an earlier step on one of all.

    The host's conditions are those of all frames, so all are drawn in the first part as well; begun with the first's
    noise, they are it. A loop of fewer steps would end elsewhere than this one is then, so it is left on the way.
    """
    loop: Callable[..., Any] = sampler.func

    @wraps(loop)  # the host looks at what it takes
    def in_parts(model: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        times, levels, scales = schedule_of(kwargs, alphas)
        way = techniques.detour(times)
        if way is None:
            return loop(model, x, *args, **kwargs)
        entered: list[Tensor] = []

        def watch(denoiser: nn.Module, given: tuple[Any, ...]) -> None:
            entered.append(given[0][:1].clone())
            if len(entered) > way.before:
                raise _Reached

        unwatch = patching.before(model, watch)
        try:
            loop(model, x, *args, **kwargs)
        except _Reached:
            back, before = (entered[step].float() / scales[step] for step in way)
        finally:
            unwatch()
        sigmas = levels[way.back], levels[way.before]
        together = techniques.turn(Turn(back, before, sigmas, len(x), seed, partial(fresh_noise, x)))
        model.step = way.back  # the host counts calls to know what of a prompt holds in a step
        return loop(model, (together * scales[way.back]).to(x), *args, **_from(way.back, kwargs))

    return in_parts


def schedule_of(kwargs: Mapping[str, Any], alphas: Tensor) -> tuple[list[float], list[float], list[float]]:
    """For each step of a loop of the host the time step, the noise level and what latents are scaled by.

    k-diffusion's loops are given levels in falling order, the end with them; the others time steps in rising order, of
    which they leave out the first.
    """
    table = ((1 - alphas) / alphas).sqrt()
    if "sigmas" in kwargs:
        levels = kwargs["sigmas"][:-1].double().cpu()
        nearest = (levels[:, None].log() - table.log()).abs().argmin(1)
        return nearest.tolist(), levels.tolist(), [1.0] * len(levels)
    times = kwargs["timesteps"].flip(0)[:-1].long().cpu()
    return times.tolist(), table[times].tolist(), alphas[times].sqrt().tolist()


def _from(step: int, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a loop that begins with that step."""
    if "sigmas" in kwargs:
        return {**kwargs, "sigmas": kwargs["sigmas"][step:]}
    return {**kwargs, "timesteps": kwargs["timesteps"][: len(kwargs["timesteps"]) - step]}
