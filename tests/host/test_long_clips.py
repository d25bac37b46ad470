"""Clips in windows, drawn several times, and with layers of earlier steps: stopped in the middle, one after another, up
to the second pass."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from .support.models import OTHER
from .support.webui import FRAMES, Frames, Result, Webui, apart, changed, moving
from .test_api import DENOISER
from .test_features import HIRES
from .test_no_trace import LAYER, LAYERS, attempt

LONG = 24
WINDOWS = {"frames": LONG, "context_length": 8, "context_overlap": 2, "context_schedule": "static"}
"""Four windows in each step."""
COUNT = 4
STEPS = {"steps": 4, "sampler_name": "Euler"}


def interrupted(webui: Webui, fields: dict[str, Any], where: str, after: int) -> tuple[Frames, int]:
    """A clip for which Interrupt is pressed in a call of `where`, after so many others, and the temporal layers' calls.

    The host calls them once in each window and pass, for prompt and negative prompt together.
    """
    for fault in ({"where": LAYER, "kind": "watch"}, {"where": where, "kind": "interrupt", "after": after}):
        webui.post("/probe/raise", fault)
    try:
        frames = webui.clip(fields, **STEPS).frames
    finally:
        watched, pressed = webui.post("/probe/disarm")
    assert pressed["fired"]
    return frames, watched["calls"]


@pytest.mark.parametrize("engine", ["denoiser", "attention"])
def test_one_window_is_bit_equal_to_none(webui: Webui, engine: str) -> None:
    plain, one = (webui.clip({"frames": FRAMES, **fields}) for fields in ({}, {"context_length": FRAMES + 4}))
    engined = webui.clip({"frames": FRAMES, "context_length": FRAMES, "context_engine": engine})
    assert (one.frames == plain.frames).all()
    assert (engined.frames == plain.frames).all()


@pytest.mark.parametrize(
    ("fields", "of_a_step", "pressed", "rest"),
    [(WINDOWS, COUNT * LAYERS, LAYERS + 5, 2 * LAYERS), ({**WINDOWS, "context_engine": "attention"}, LAYERS, 5, 6)],
    ids=["denoiser", "attention"],
)
def test_interrupt_acts_within_a_step(
    webui: Webui, still: str, fields: dict[str, Any], of_a_step: int, pressed: int, rest: int
) -> None:
    """It ends with the window (or layer) in progress, and the clip is what the last whole step has predicted."""
    before = webui.facts()
    wanted, calls = interrupted(webui, fields, DENOISER, 2)
    assert calls == 2 * of_a_step
    frames, calls = interrupted(webui, fields, LAYER, 2 * of_a_step + pressed)
    assert calls == 2 * of_a_step + rest
    assert (frames == wanted).all()
    assert not changed(before, webui.facts())


@pytest.mark.parametrize(
    "fields",
    [{"loop": "closed"}, {"frames": LONG, "context_length": 8}, {"frames": LONG, "context_length": 8, "freeinit": 2}],
    ids=str,
)
def test_the_second_clip_is_the_one_of_its_seed(webui: Webui, fields: dict[str, Any]) -> None:
    both = webui.clip(fields, n_iter=2).clips
    for clip in both:
        assert (clip.frames == webui.clip(fields, seed=clip.seed).frames).all()


def test_steadied_colours_are_the_same_in_all_frames(webui: Webui) -> None:
    plain, steady, half = (webui.clip({"frames": LONG, "steady_colours": weight}).frames for weight in (0, 1, 0.5))
    before, after, between = (frames.mean((1, 2)).std(0) for frames in (plain, steady, half))
    assert (after <= 0.5).all() and (after < between).all() and (between < before).all()
    assert abs(np.median(plain.mean((1, 2)), 0) - steady.mean((1, 2))).max() < 2


def test_the_second_pass_does_not_know_how_many_steps_the_first_had(webui: Webui) -> None:
    """Windows go on from step to step; those of hires fix begin where they would for a clip of its own."""
    seen = []
    for steps in (3, 4):
        with webui.calls("motion.sampling.arrangement.Arrangement.rows") as calls:
            webui.clip({"frames": LONG, "context_length": 8}, **HIRES, steps=steps, hr_second_pass_steps=2)
        seen.append([call[2] for call in calls])
    assert seen[0][-len(seen[0]) // 5 :] == seen[1][-len(seen[0]) // 5 :]


def denoised(webui: Webui, **request: Any) -> tuple[int, Result]:
    """The host's calls of its denoiser, and the clip."""
    with webui.calls(DENOISER) as calls:
        result = webui.clip(**request)
    return len(calls), result


def test_freeinit_draws_again(webui: Webui, still: str) -> None:
    before = webui.facts()
    once, plain = denoised(webui, **STEPS)
    one, same = denoised(webui, fields={"freeinit": 1, "freeinit_filter": "ideal"}, **STEPS)
    again, other = denoised(webui, fields={"freeinit": 3}, **STEPS)
    assert (once, one, again) == (once, once, 3 * once)
    assert (same.frames == plain.frames).all()
    assert apart(other.frames, plain.frames) > 0.5
    assert "Motion FreeInit: 3" in other.info["infotexts"][0]
    assert not changed(before, webui.facts())


def test_freeinit_leaves_the_second_pass_alone(webui: Webui, still: str) -> None:
    once, plain = denoised(webui, **HIRES, **STEPS)
    again, other = denoised(webui, fields={"freeinit": 2}, **HIRES, **STEPS)
    first, _ = denoised(webui, **STEPS)
    assert again == once + first
    assert apart(other.frames, plain.frames) > 0.5


def test_an_interrupted_round_is_the_last(webui: Webui, still: str) -> None:
    calls, _ = denoised(webui, **STEPS)
    frames, layers = interrupted(webui, {"freeinit": 3}, DENOISER, calls + 1)
    assert layers == (calls + 1) * LAYERS
    assert len(frames) == FRAMES


def test_the_progress_bar_does_not_go_back(webui: Webui) -> None:
    seen = [0.0]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(attempt, webui, **moving(freeinit=3), steps=20)
        while not running.done():
            seen.append(webui.get("/sdapi/v1/progress", skip_current_image="true")["progress"])
            time.sleep(0.05)
    assert running.result().status == 200
    going = seen[: seen.index(max(seen)) + 1]
    assert going == sorted(going)
    assert max(going) > 0.7
    assert len(set(going)) > 6


@pytest.mark.parametrize("of", ["img2img", "refiner"])
def test_clips_of_an_image_and_refined_ones_are_drawn_again(
    webui: Webui, still: str, first_frame: Frames, of: str
) -> None:
    def drawn(freeinit: int) -> Frames:
        if of == "img2img":
            return webui.img2img(first_frame, **moving(freeinit=freeinit)).frames
        return webui.clip({"freeinit": freeinit}, refiner_checkpoint=OTHER, refiner_switch_at=0.5).frames

    once, twice, again = drawn(1), drawn(2), drawn(2)
    assert apart(once, twice) > 1
    assert np.array_equal(twice, again)
    assert np.array_equal(drawn(1), once)


CACHED_STEPS = 8
EIGHT: dict[str, Any] = {"steps": CACHED_STEPS, "sampler_name": "Euler"}
SHORT = {"frames": 4}
FEW_IN_WINDOWS = {"frames": 8, "context_length": 4, "context_overlap": 2, "context_schedule": "static"}
WHOLE = {0, 1, 3, 6, 7}
"""Steps of the balanced mode in which all is computed."""
FEW_CALLS = {"batch_cond_uncond": False}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], set[int] | None]] = {
    "one window": (SHORT, {}, WHOLE),
    "windows": (FEW_IN_WINDOWS, {}, WHOLE),
    "windows over the attention": ({**FEW_IN_WINDOWS, "context_engine": "attention"}, {}, WHOLE),
    "AND": (SHORT, {"prompt": "a red circle AND a blue square :0.5"}, WHOLE),
    "prompt editing": (SHORT, {"prompt": "a [red:blue:0.5] circle"}, {0, 1, 3, 5, 6, 7}),
    "a negative prompt that is edited": (SHORT, {"negative_prompt": "[blue::3]"}, {0, 1, 3, 4, 6, 7}),
    "hires fix": (SHORT, HIRES, None),
    "refiner": (SHORT, {"refiner_checkpoint": OTHER, "refiner_switch_at": 0.5}, None),
    "prompts one after the other": (SHORT, {"override_settings": FEW_CALLS}, WHOLE),
}


def layers(webui: Webui, fields: dict[str, Any], request: dict[str, Any]) -> tuple[Frames, int]:
    """A clip, and how often temporal layers were called for it."""
    with webui.calls(LAYER) as calls:
        frames = webui.clip(fields, **EIGHT, **request).frames
    return frames, len(calls)


@pytest.mark.parametrize("name", CASES)
def test_deep_layers_are_computed_in_some_steps(webui: Webui, still: str, name: str) -> None:
    """As many as the mode says, with the same clip each time; off is as before, and nothing is left."""
    fields, request, whole = CASES[name]
    off, all_calls = layers(webui, fields, request)
    before = webui.facts()
    cached, calls = layers(webui, {**fields, "cache": "balanced"}, request)
    assert name == "refiner" or not changed(before, webui.facts()), "a refiner leaves another checkpoint in its place"
    again, _ = layers(webui, {**fields, "cache": "balanced"}, request)
    assert (cached == again).all() and apart(cached, off) > 0
    if whole is None:
        assert all_calls / 2 < calls < all_calls
    else:
        of_a_step = all_calls // (CACHED_STEPS * LAYERS)
        assert calls == of_a_step * (LAYERS * len(whole) + CACHED_STEPS - len(whole))
    assert (layers(webui, fields, request)[0] == off).all()


def test_an_interrupted_clip_leaves_nothing(webui: Webui, still: str) -> None:
    before, fields = webui.facts(), {**SHORT, "cache": "balanced"}
    plain = webui.clip(fields, **EIGHT).images
    with webui.fault(LAYER, "interrupt", 2 * LAYERS):  # in the first step that takes over
        webui.clip(fields, **EIGHT)
    assert not changed(before, webui.facts())
    assert webui.clip(fields, **EIGHT).images == plain
