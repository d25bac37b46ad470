"""Runs that go back on their way, around a WebUI's samplers: loops run in two parts, all else is as it was."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from motion.hosts.webui.backends import base
from motion.hosts.webui.first_passes import detour
from motion.models.motion.architecture import STABLE_DIFFUSION
from motion.settings.tab import NO_MODULE, Tab
from motion.techniques.registry import techniques_of
from motion.techniques.technique import Turn
from tests.support.small import far

FRAMES, SEED = 4, 7
ALPHAS = STABLE_DIFFUSION.alphas_cumprod()
LEVELS = ((1 - ALPHAS) / ALPHAS).sqrt()
TIMES = [981, 941, 881, 500, 200, 1]
AT1, AT0 = 1, 2


class Denoiser(nn.Module):
    """Predicts the same noise whatever it is told, and notes at which steps it was asked."""

    step = 0

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        self.step += 1
        return 0.1 * x + level.view(-1, 1, 1, 1).log()


def euler(model: nn.Module, x: Tensor, sigmas: Tensor, callback: Any = None) -> Tensor:
    """As k-diffusion has it; the model predicts noise."""
    for level, following in itertools.pairwise(sigmas):
        x = x + (following - level) * model(x, level.expand(len(x)))
    return x


def ddim(model: nn.Module, x: Tensor, timesteps: Tensor, callback: Any = None) -> Tensor:
    """As A1111 has it: the last step of a run goes to t = 0, wherever it begins."""
    alphas, before = ALPHAS[timesteps], ALPHAS[torch.nn.functional.pad(timesteps[:-1], (1, 0))]
    for at in range(len(timesteps) - 1, 0, -1):
        noise = model(x, LEVELS[timesteps[at]].expand(len(x)))
        x0 = (x - (1 - alphas[at]).sqrt() * noise) / alphas[at].sqrt()
        x = before[at].sqrt() * x0 + (1 - before[at]).sqrt() * noise
    return x


class Sampler:
    def __init__(self, loop: Callable[..., Tensor]) -> None:
        self.func, self.model_wrap_cfg = loop, Denoiser()

    def sample(self, p: Any, x: Tensor) -> Tensor:
        if self.func.__name__ == "euler":
            levels = torch.cat([LEVELS[TIMES], LEVELS.new_zeros(1)])
            return self.func(self.model_wrap_cfg, x * levels[0], callback=None, sigmas=levels)
        return self.func(self.model_wrap_cfg, x, callback=None, timesteps=torch.tensor(TIMES).flip(0))


@pytest.mark.parametrize("loop", [euler, ddim])
def test_the_first_frame_is_drawn_then_moved_then_all(loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    samplers = SimpleNamespace(create_sampler=lambda name, model: Sampler(loop))
    create = samplers.create_sampler
    rng = SimpleNamespace(create_generator=torch.Generator().manual_seed, randn_without_seed=torch.randn)
    monkeypatch.setattr(base, "host_module", lambda name: {"sd_samplers": samplers, "rng": rng}[name])
    x = torch.randn(FRAMES, 4, 8, 8, dtype=torch.float64)
    techniques = techniques_of(Tab(module=NO_MODULE, field_x=64, field_y=-40))
    with ExitStack() as undo:
        detour.go_back(techniques, ALPHAS, undo)
        sampler = samplers.create_sampler("Euler", None)
        found = sampler.sample(SimpleNamespace(seeds=[SEED]), x)
        assert sampler.func is loop
        assert sampler.model_wrap_cfg.step == len(TIMES) - (loop is ddim)
    assert samplers.create_sampler is create

    # In k-diffusion's units DDIM is Euler.
    latents = x[:1] * (LEVELS[TIMES[0]] if loop is euler else ALPHAS[TIMES[0]].rsqrt())
    model, seen = Denoiser(), []
    for at, (time, following) in enumerate(itertools.pairwise(TIMES)):
        seen.append(latents)
        if at == AT0:
            break
        scale = 1 if loop is euler else ALPHAS[time].sqrt()
        latents = latents + (LEVELS[following] - LEVELS[time]) * model(latents * scale, LEVELS[time].view(1))
    levels = (LEVELS[TIMES[AT1]].item(), LEVELS[TIMES[AT0]].item())
    turn = Turn(seen[AT1].float(), seen[AT0].float(), levels, FRAMES, SEED, partial(base.fresh_noise, x))
    together = techniques.turn(turn)
    if loop is euler:
        wanted = euler(model, together, torch.cat([LEVELS[TIMES[AT1:]], LEVELS.new_zeros(1)]))
    else:
        wanted = ddim(model, together * ALPHAS[TIMES[AT1]].sqrt(), torch.tensor(TIMES[AT1:]).flip(0))
    assert far(found, wanted) <= 1e-6
