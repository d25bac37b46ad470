"""After a clip, however it ended, the host is what it was."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from .test_api import DENOISER
from .webui import FRAMES, QUICK, Reply, Webui, apart, changed, moving

LAYER = "motion.network.temporal.TemporalTransformer.forward"
LAYERS = 20
"""Temporal layers in the bundled module, each of which runs once in a pass."""
ERRORS: dict[str, tuple[str, int]] = {
    "entering the scope": ("motion.animation.attach", 0),
    "finding the layers": ("motion.network.sites.find", 0),
    "before the first step": (DENOISER, 0),
    "in the first temporal layer": (LAYER, 0),
    "in the second step": (LAYER, LAYERS + 5),
    "in the host after the second step": (DENOISER, 2),
    "decoding": ("modules.processing.decode_latent_batch", 0),
}
LONG = {"steps": 150}
JOBS = [
    {},
    {"sampler_name": "Euler a"},
    {"n_iter": 2},
    {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "denoising_strength": 0.7},
]


@pytest.mark.parametrize("job", JOBS, ids=str)
def test_success(webui: Webui, still: str, job: dict[str, object]) -> None:
    webui.txt2img(**job)  # whatever the host itself leaves behind
    before = webui.facts()
    webui.clip(**job)
    assert not changed(before, webui.facts())


@pytest.mark.parametrize("kind", ["error", "oom"])
@pytest.mark.parametrize(("where", "after"), ERRORS.values(), ids=ERRORS)
def test_an_error(webui: Webui, still: str, where: str, after: int, kind: str) -> None:
    saved, before, plain = webui.server.outputs, webui.facts(), webui.clip().images
    with webui.fault(where, kind, after):
        reply = attempt(webui, save_images=True)
    assert reply.status == 500, "an error is no success"
    assert "the probe" in reply.sentence
    assert not changed(before, webui.facts())
    assert webui.server.outputs == saved, "no still is left"
    assert webui.clip().images == plain


def test_an_error_while_writing(webui: Webui, still: str) -> None:
    before = webui.facts()
    with webui.fault("motion.video.write.write", "error"):
        reply = attempt(webui)
    assert reply.status == 500
    assert not changed(before, webui.facts())


@pytest.mark.parametrize("kind", ["interrupt", "skip"])
@pytest.mark.parametrize("after", [0, LAYERS + 5], ids=["at once", "in the second step"])
def test_interrupt_and_skip(webui: Webui, still: str, kind: str, after: int) -> None:
    before, plain = webui.facts(), webui.clip().images
    with webui.fault(LAYER, kind, after):
        reply = attempt(webui)
    assert reply.status == 200, reply.body
    assert not changed(before, webui.facts())
    assert webui.clip().images == plain


@pytest.mark.parametrize("stop", [Webui.interrupt, Webui.skip], ids=["interrupt", "skip"])
def test_a_long_run_ends_soon(webui: Webui, still: str, stop: Callable[[Webui], None]) -> None:
    before = webui.facts()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(attempt, webui, **LONG)
        while not running.done() and webui.step < 3:
            time.sleep(0.05)
        assert not running.done(), "it ended before it could be stopped"
        step, start = webui.step, time.monotonic()
        stop(webui)
        reply = running.result()
    assert reply.status == 200, reply.body
    assert step < LONG["steps"] // 2
    assert time.monotonic() - start < 20
    assert not changed(before, webui.facts())


def test_skip_leaves_the_other_clip(webui: Webui, still: str) -> None:
    with webui.fault(LAYER, "skip", LAYERS):
        clips = webui.clip(n_iter=2).clips
    assert len(clips[-1].frames) == FRAMES
    assert (clips[-1].frames == webui.clip(seed=6).frames).all()


def test_off_it_is_not_there(webui: Webui, bare_webui: Webui) -> None:
    """Installed and unused: the same stills to the last byte, and the same host inside."""
    requests = [{}, {"batch_size": 3}, {"sampler_name": "Euler a", "n_iter": 2}, {"cfg_scale": 1}]
    for request in requests:
        assert webui.txt2img(**request).images == bare_webui.txt2img(**request).images
    with_it, without = (
        {
            name: text.replace(str(host.server.data), "")
            for name, text in host.facts(ids=False).items()
            if not name.startswith(("callbacks", "option"))
        }
        for host in (webui, bare_webui)
    )
    assert not changed(without, with_it)


def test_nothing_of_ours_is_drawn_in_while_off(webui: Webui) -> None:
    webui.txt2img()
    imported = webui.get("/probe/state", ids=0)["imported"]
    assert not [name for name in imported if name.startswith(("motion.training", "motion.hosts.standalone"))]


def test_memory_does_not_grow(webui: Webui) -> None:
    for _ in range(3):
        webui.clip()
    before = webui.memory
    for _ in range(8):
        webui.clip()
    assert webui.memory - before < 64e6


def test_stills_before_and_after(webui: Webui) -> None:
    requests = [{**QUICK, "seed": seed, "batch_size": 2} for seed in (1, 2)]
    before = [webui.txt2img(**request).images for request in requests]
    clip = webui.clip(seed=1).frames
    assert apart(clip[0], webui.txt2img(seed=1).pictures[-1]) > 0
    assert [webui.txt2img(**request).images for request in requests] == before


def attempt(webui: Webui, **request: object) -> Reply:
    """A clip, whatever comes of it."""
    return webui.reply("/sdapi/v1/txt2img", {**QUICK, **moving(), **request})
