"""After a clip, however it ended, the host is what it was."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from motion.demo.world import draw_clip, parse_caption

from .support.hosts import A1111
from .support.networks import LORA
from .support.webui import FRAMES, QUICK, Reply, Webui, apart, changed, encoded, moving, needs_controlnet, reference
from .test_api import DENOISER

LAYER = "motion.models.motion.temporal.TemporalTransformer.forward"
LAYERS = 20
"""Temporal layers in the bundled module, each of which runs once in a pass."""
ERRORS: dict[str, tuple[str, int]] = {
    "entering the scope": ("motion.sampling.animation.attach", 0),
    "finding the layers": ("motion.models.sites.find", 0),
    "before the first step": (DENOISER, 0),
    "in the first temporal layer": (LAYER, 0),
    "in the second step": (LAYER, LAYERS + 5),
    "in the host after the second step": (DENOISER, 2),
    "decoding": ("modules.processing.decode_latent_batch", 0),
    "planning": ("motion.extension.script.plan", 0),
}
INITIAL = {
    "encoding the initial image": "modules.processing.images_tensor_to_samples",
    "encoding the last frame": "motion.hosts.webui.sampling.encode_picture",
}
LONG = {"steps": 150}
FIRST = encoded(draw_clip(parse_caption(QUICK["prompt"]), np.random.default_rng(3))[0])
MASK = encoded(np.repeat(np.uint8([0, 255]), 32 * 64 * 3).reshape(64, 64, 3))
HIRES: dict[str, Any] = {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "denoising_strength": 0.7}
LORA_PROMPT: dict[str, Any] = {"prompt": f"{QUICK['prompt']} <lora:{LORA}:1>"}
STILLS: dict[str, dict[str, Any]] = {
    "txt2img": {},
    "batch": {"batch_size": 3},
    "n_iter": {"sampler_name": "Euler a", "n_iter": 2},
    "CFG 1": {"cfg_scale": 1},
    "img2img": {"init_images": [FIRST]},
    "inpaint": {"init_images": [FIRST], "mask": MASK, "mask_blur": 0, "inpainting_fill": 1, "inpaint_full_res": False},
    "hires": HIRES,
    "LoRA": LORA_PROMPT,
    "LoRA and hires": {**HIRES, **LORA_PROMPT},
    "ControlNet": {"alwayson_scripts": reference(FIRST)},
}
each_still = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs_controlnet if name == "ControlNet" else ()) for name in STILLS]
)
JOBS = [
    {},
    {"sampler_name": "Euler a"},
    {"n_iter": 2},
    HIRES,
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
    check_an_error(webui, where, kind, after)


@pytest.mark.parametrize("kind", ["error", "oom"])
@pytest.mark.parametrize("where", INITIAL.values(), ids=INITIAL)
def test_an_error_with_an_initial_image(webui: Webui, still: str, where: str, kind: str) -> None:
    webui.img2img(init_images=[FIRST])  # whatever the host itself leaves behind
    check_an_error(webui, where, kind, init_images=[FIRST], **moving(start="first", last_frame=FIRST))


def check_an_error(webui: Webui, where: str, kind: str, after: int = 0, **request: Any) -> None:
    saved, before, plain = webui.server.outputs, webui.facts(), webui.clip().images
    with webui.fault(where, kind, after):
        reply = attempt(webui, save_images=True, **request)
    assert reply.status in (422, 500), "an error is no success"
    assert ("memory" if kind == "oom" else "the probe") in reply.sentence
    assert not changed(before, webui.facts())
    assert webui.server.outputs == saved, "no still is left"
    assert webui.clip().images == plain


def test_memory_that_is_used_up_while_sampling_is_told(webui: Webui, still: str) -> None:
    with webui.fault(LAYER, "oom", LAYERS + 5):
        reply = attempt(webui)
    assert reply.status == 422
    assert re.fullmatch(rf"{FRAMES} frames at a time do not fit into memory: .*Context length.*", reply.sentence)


def test_short_memory_draws_the_same_in_slices(webui: Webui, still: str) -> None:
    """The Forge family's memory manager knows what is left on the CPU, too; AUTOMATIC1111 asks a GPU alone."""
    before, plain = webui.facts(), webui.clip({"frames": 8}).frames
    with (
        webui.put("motion.hosts.memory.FRAME_BYTES", 1e15),
        webui.calls("motion.sampling.rows.take_rows") as parts,
    ):
        sliced = webui.clip({"frames": 8}).frames
    assert apart(sliced, plain) < 1
    assert bool(parts) is (webui.server.host.kind is not A1111)
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


@each_still
def test_off_it_is_not_there(webui: Webui, bare_webui: Webui, name: str) -> None:
    """Installed and unused: the same stills to the last byte."""
    assert drawn(webui, STILLS[name]) == drawn(bare_webui, STILLS[name])


def test_off_the_host_is_the_same_inside(webui: Webui, bare_webui: Webui) -> None:
    drawn(bare_webui, LORA_PROMPT)  # once there has been one, the host keeps notes on all layers
    drawn(webui, LORA_PROMPT)
    with_it, without = (
        {
            name: text.replace(str(host.server.data), "")
            for name, text in host.facts(ids=False).items()
            if not name.startswith(("callbacks", "option"))
        }
        for host in (webui, bare_webui)
    )
    assert not changed(without, with_it)


@each_still
def test_on_then_off(webui: Webui, name: str) -> None:
    before = drawn(webui, STILLS[name])
    scripts = {**STILLS[name].get("alwayson_scripts", {}), **moving()["alwayson_scripts"]}
    assert drawn(webui, {**STILLS[name], "alwayson_scripts": scripts}) != before
    assert drawn(webui, STILLS[name]) == before


def test_nothing_of_ours_is_drawn_in_while_off(webui: Webui) -> None:
    webui.txt2img()
    imported = webui.get("/probe/state", ids=0)["imported"]
    assert not [name for name in imported if name.startswith(("motion.training", "motion.hosts.standalone"))]


def test_memory_stays_where_it_was(webui: Webui) -> None:
    """The allocator's heaps take some thirty jobs to find their size."""
    for _ in range(15):
        webui.clip()
        webui.txt2img()
    before = webui.memory
    for _ in range(10):
        webui.clip()
        webui.txt2img()
    assert webui.memory == pytest.approx(before, rel=0.01)


def test_stills_before_and_after(webui: Webui) -> None:
    requests = [{**QUICK, "seed": seed, "batch_size": 2} for seed in (1, 2)]
    before = [webui.txt2img(**request).images for request in requests]
    clip = webui.clip(seed=1).frames
    assert apart(clip[0], webui.txt2img(seed=1).pictures[-1]) > 0
    assert [webui.txt2img(**request).images for request in requests] == before


def attempt(webui: Webui, **request: Any) -> Reply:
    """A clip, whatever comes of it."""
    tab = "img2img" if "init_images" in request else "txt2img"
    return webui.reply(f"/sdapi/v1/{tab}", {**QUICK, **moving(), **request})


def drawn(host: Webui, request: Mapping[str, Any]) -> list[str]:
    """What comes of a request, from the tab that it is for.

    The host encodes initial images with random numbers that the job before has left, so that is always the same one.
    """
    host.txt2img()
    return (host.img2img if "init_images" in request else host.txt2img)(**request).images
