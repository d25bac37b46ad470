"""FreeInit around a WebUI's samplers: first passes are drawn again, and everything else is as it was."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from motion.hosts.webui import rounds
from motion.hosts.webui.backends import base
from motion.sampling.arrangement import Arrangement
from motion.sampling.windows import Windows
from motion.settings.tab import Tab
from motion.techniques.freeinit import FRESH_SEED, reinitialize_noise
from motion.techniques.registry import techniques_of

FRAMES, ALPHA, SEED = 8, 0.25, 7


def noise(seed: int) -> Tensor:
    """Of all frames, from one stream."""
    return torch.randn(FRAMES, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


class Sampler:
    """Draws half of its noise, and notes at which step of the arrangement it began."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def sample(self, p: Any, x: Tensor, *args: Any) -> Tensor:
        self.host.begun.append((self.host.arrangement.step, args))
        self.host.arrangement.begin(900.0)
        if len(self.host.begun) == self.host.interrupted_in:
            self.host.state.interrupted = True
        return x / 2

    def sample_img2img(self, p: Any, x: Tensor) -> Tensor:
        return x


class Host:
    """What of a WebUI FreeInit touches."""

    interrupted_in = 0

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.arrangement = Arrangement(Windows(FRAMES, 4))
        self.jobs = 0
        self.state = SimpleNamespace(interrupted=False, skipped=False, job_count=2, nextjob=self.nextjob)
        bar = SimpleNamespace(_tqdm=None, updateTotal=lambda total: setattr(self, "total", total))
        self.shared = SimpleNamespace(state=self.state, total_tqdm=bar)
        self.sd_samplers = SimpleNamespace(create_sampler=lambda name, model: Sampler(self))
        self.p = SimpleNamespace(iteration=0, n_iter=2, steps=10, seeds=[SEED, SEED + 1])
        self.rng = SimpleNamespace(create_generator=torch.Generator().manual_seed, randn_without_seed=torch.randn)

    def nextjob(self) -> None:
        self.jobs += 1

    def drawn(self, x: Tensor, **settings: Any) -> Any:
        with ExitStack() as undo:
            rounds.draw_again(self.p, techniques_of(Tab(**settings)), ALPHA, self.arrangement, undo)
            sampler = self.sd_samplers.create_sampler("DDIM", None)
            assert sampler.sample_img2img(self.p, x) is x
            return sampler.sample(self.p, x, "told")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host()
    for module in (base, rounds):
        monkeypatch.setattr(module, "host_module", lambda name: getattr(made, name))
    return made


def test_each_round_begins_with_the_slow_parts_of_the_last_one(host: Host) -> None:
    create, x = host.sd_samplers.create_sampler, noise(SEED)
    found = host.drawn(x, freeinit=3, freeinit_filter="gaussian")
    for number in (1, 2):
        x = reinitialize_noise(x / 2, x, noise(SEED + number * FRESH_SEED), ALPHA, "gaussian")
    assert torch.equal(found, x / 2)
    assert host.begun == [(-1, ("told",))] * 3
    assert host.jobs == 2
    assert host.state.job_count == 2 + 2 * 2
    assert host.sd_samplers.create_sampler is create


def test_an_interrupted_round_is_what_comes_of_it(host: Host) -> None:
    host.interrupted_in = 1
    x = noise(SEED)
    assert torch.equal(host.drawn(x, freeinit=3), x / 2)
    assert (len(host.begun), host.jobs) == (1, 0)


def test_the_bars_are_told_once_for_all_clips(host: Host) -> None:
    host.p.iteration = 1
    host.drawn(noise(SEED), freeinit=2)
    assert host.state.job_count == 2
    host.p.iteration = 0
    host.shared.total_tqdm._tqdm = SimpleNamespace(total=40)
    host.drawn(noise(SEED), freeinit=2)
    assert (host.state.job_count, host.total) == (4, 60)  # type: ignore[attr-defined]
