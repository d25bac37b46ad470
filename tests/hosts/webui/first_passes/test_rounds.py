"""FreeInit around a WebUI's samplers: first passes are drawn again, and everything else is as it was."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from motion.hosts.webui import progress
from motion.hosts.webui.backends import base
from motion.hosts.webui.first_passes import rounds
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

    def sample_img2img(self, p: Any, x: Tensor, *args: Any) -> Tensor:
        return x + self.sample(p, *args) if args else x


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
    for module in (base, rounds, progress):
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


def test_a_clip_that_begins_with_an_image_begins_each_round_with_it(host: Host) -> None:
    host.p.init_images, image, x = ["image"], noise(1), noise(SEED)
    with ExitStack() as undo:
        rounds.draw_again(host.p, techniques_of(Tab(freeinit=2)), ALPHA, host.arrangement, undo)
        found = host.sd_samplers.create_sampler("DDIM", None).sample_img2img(host.p, image, x, "told")
    again = reinitialize_noise(image + x / 2, x, noise(SEED + FRESH_SEED), ALPHA)
    assert torch.equal(found, image + again / 2)
    assert host.begun == [(-1, ("told",))] * 2


def test_the_refiner_leaves_the_next_round_its_first_model(host: Host) -> None:
    done: list[str] = []
    host.sd_models = SimpleNamespace(reload_model_weights=lambda: done.append("reload"))
    host.extra_networks = SimpleNamespace(activate=lambda p, networks: done.append(networks))
    host.p.refiner_checkpoint_info, host.p.extra_network_data = "other", "networks"
    host.p.setup_conds, host.p.get_conds = lambda: done.append("conds"), lambda: ("prompt", "negative")
    with ExitStack() as undo:
        rounds.draw_again(host.p, techniques_of(Tab(freeinit=2)), ALPHA, host.arrangement, undo)
        sampler = host.sd_samplers.create_sampler("DDIM", None)
        sampler.model_wrap_cfg = SimpleNamespace(update_inner_model=lambda: done.append("update"))
        sampler.sample(host.p, noise(SEED), "refined", "negative of it", "more")
    assert done == ["reload", "networks", "conds", "update"]
    assert [told for _, told in host.begun] == [("refined", "negative of it", "more"), ("prompt", "negative", "more")]


def test_later_rounds_may_be_drawn_from_another_kind_of_noise(host: Host) -> None:
    x = noise(SEED)
    found = host.drawn(x, freeinit=2, freeinit_noise="constant")
    fresh = noise(SEED + FRESH_SEED)[:1].expand(FRAMES, -1, -1, -1)
    assert torch.equal(found, reinitialize_noise(x / 2, x, fresh, ALPHA) / 2)


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
