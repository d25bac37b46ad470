"""Inverted noise around a WebUI's samplers: their own denoiser is gone backwards before they draw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from motion.errors import MotionError
from motion.hosts.webui import progress
from motion.hosts.webui.backends import base
from motion.hosts.webui.first_passes import inversion
from motion.hosts.webui.first_passes.inversion import Inversion, check_inversion
from motion.hosts.webui.guidance import Guidance
from motion.sampling.arrangement import Arrangement
from motion.sampling.windows import Windows
from motion.settings.tab import Tab
from motion.techniques.ddim_inversion import EVALUATIONS
from motion.techniques.registry import techniques_of
from tests.hosts.webui.first_passes.test_detour import ALPHAS, LEVELS, TIMES, ddim, euler
from tests.support.small import far

FRAMES, STEPS = 4, len(TIMES)
LATENTS = torch.randn(FRAMES, 4, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
NOISE = torch.randn(FRAMES, 4, 8, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


class Denoiser(nn.Module):
    """Finds in latents a noise that the prompt and the level say alone, so that its way back is exact; notes what it is
    asked."""

    of_noise = False

    def __init__(self, guidance: Guidance) -> None:
        super().__init__()
        self.guidance, self.mask, self.step = guidance, "of the job", 0
        self.asked: list[Any] = []

    def forward(self, x: Tensor, level: Tensor, cond: Any, cond_scale: float, image_cond: str) -> Tensor:
        state = cond, cond_scale, self.mask, bool(self.guidance.techniques.members), self.guidance.arrangement.prompts
        self.asked.append(state)
        assert image_cond == "its own"
        self.step += 1
        level = level.view(-1, 1, 1, 1)
        noise = torch.ones_like(x) * level.log1p() * len(cond)
        return noise if self.of_noise else x - level * noise


class Sampler:
    def __init__(self, loop: Callable[..., Tensor], guidance: Guidance) -> None:
        self.model_wrap_cfg = Denoiser(guidance)
        self.of_times = self.model_wrap_cfg.of_noise = loop is ddim

        def run(model: Any, x: Tensor, extra_args: Any, **schedule: Tensor) -> Tensor:
            def noise(x: Tensor, level: Tensor) -> Tensor:
                if self.of_times:  # which are what the host tells the denoiser
                    time = (LEVELS - level[0]).abs().argmin().double().expand(len(x))
                    return model(x, time, **extra_args)  # type: ignore[no-any-return]
                return (x - model(x, level, **extra_args)) / level.view(-1, 1, 1, 1)

            return loop(noise, x, **schedule)

        self.func = self.loop = run
        self.steps_told: list[int] = []

    def callback_state(self, told: Any) -> None:
        self.steps_told.append(told["i"])

    def sample_img2img(self, p: Any, latents: Tensor, noise: Tensor, cond: Any) -> Tensor:
        """From the third of the steps on, as hosts go from an image."""
        extra = {"cond": cond, "cond_scale": 7.0, "image_cond": "its own"}
        if self.of_times:
            a = ALPHAS[TIMES[2]]
            x = latents * a.sqrt() + noise * (1 - a).sqrt()
            return self.func(self.model_wrap_cfg, x, extra_args=extra, timesteps=torch.tensor(TIMES[2:]).flip(0))
        sigmas = torch.cat([LEVELS[TIMES[2:]], LEVELS.new_zeros(1)])
        return self.func(self.model_wrap_cfg, latents + noise * sigmas[0], extra_args=extra, sigmas=sigmas)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    state = SimpleNamespace(job_count=2, jobs=0)
    state.nextjob = lambda: setattr(state, "jobs", state.jobs + 1)
    parser = SimpleNamespace(
        SdConditioning=lambda prompts, width, height: prompts,
        get_multicond_learned_conditioning=lambda model, prompts, steps: prompts[0].strip(),
    )

    @contextmanager
    def autocast() -> Iterator[None]:
        yield

    modules = SimpleNamespace(
        shared=SimpleNamespace(state=state, total_tqdm=SimpleNamespace(_tqdm=None), sd_model=None),
        prompt_parser=parser,
        devices=SimpleNamespace(autocast=autocast),
        sd_samplers=SimpleNamespace(),
    )
    for module in (base, inversion, progress):
        monkeypatch.setattr(module, "host_module", lambda name: getattr(modules, name))
    return modules


@pytest.mark.parametrize("loop", [euler, ddim])
def test_the_loop_comes_back_to_the_source_and_what_is_set_comes_back(host: SimpleNamespace, loop: Any) -> None:
    tab = Tab(frames=FRAMES, noise="inverted", cfg_last=3)
    arrangement = Arrangement(Windows(FRAMES), prompts=2)
    guidance = Guidance(techniques_of(tab), arrangement, FRAMES)
    host.sd_samplers.create_sampler = create = lambda name, model: Sampler(loop, guidance)
    p = SimpleNamespace(iteration=0, n_iter=2, steps=STEPS, width=64, height=64)
    with ExitStack() as undo:
        Inversion("ab <lora:x:1>", guidance, ALPHAS).attach(p, undo)
        sampler = host.sd_samplers.create_sampler("Euler", None)
        found = sampler.sample_img2img(p, LATENTS, NOISE, "ab")
        other = sampler.sample_img2img(p, LATENTS, NOISE, "a b c d")
        assert sampler.func is sampler.loop
        p.is_hr_pass = True
        second = sampler.sample_img2img(p, LATENTS, NOISE, "ab")
    assert host.sd_samplers.create_sampler is create
    assert far(found, LATENTS) <= 1e-4 < 0.1 < far(other, LATENTS)
    assert far(second, Sampler(loop, guidance).sample_img2img(p, LATENTS, NOISE, "ab")) == 0
    steps = STEPS - 2 - (loop is ddim)
    asked, calls = sampler.model_wrap_cfg.asked, EVALUATIONS * steps
    assert asked[:calls] == [("ab", 1.0, None, False, 1)] * calls
    assert asked[calls : calls + steps] == [("ab", 7.0, "of the job", True, 2)] * steps
    assert sampler.steps_told == sorted([*range(steps)] * EVALUATIONS) * 2
    assert (host.shared.state.job_count, host.shared.state.jobs) == (4, 2)
    assert arrangement.prompts == 2 and guidance.techniques.members


def test_what_has_no_noise_of_its_own_is_refused() -> None:
    for p, tab, said in (
        ({"refiner_checkpoint": "xl_refiner"}, Tab(), "turn the refiner off"),
        ({}, Tab(start="first"), "fade into noise"),
        ({"refiner_checkpoint": "None"}, Tab(initial_weight=0.5), "fade into noise"),
    ):
        with pytest.raises(MotionError, match=said):
            check_inversion(SimpleNamespace(**p), tab)
    check_inversion(SimpleNamespace(refiner_checkpoint=None), Tab())
