"""The short run on every host: a clip with each of the large features, and the host as it was behind it.

SD_WEBUI_DIR=~/forge-neo tests/host/run.sh Neo smoke
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from .support.hosts import CLASSIC, ERSATZ, FORGE, NEO, REFORGE, Kind
from .support.models import RGB
from .support.networks import LORA
from .support.page import TABS, WebuiPage
from .support.webui import FRAMES, QUICK, Webui, apart, changed, encoded, moving, reference
from .test_controlnet import HINTS, drawn, folder, network
from .test_long_clips import WINDOWS
from .test_no_trace import FIRST, HIRES, attempt

__all__ = ["network"]  # a fixture

DIFFERENT = 0.5
ROUNDING = 1.0
"""Mean difference of 255 up to which two ways to the same clip may differ: other sizes of a batch round otherwise."""
SHORT = {"frames": 4}


def test_a_clip_moves_and_leaves_no_trace(webui: Webui, still: str) -> None:
    plain, before = webui.txt2img(batch_size=FRAMES).pictures[-FRAMES:], webui.facts()
    first, second = (webui.clip().frames for _ in range(2))
    assert first.shape == (FRAMES, 64, 64, 3)
    assert apart(first, plain) > DIFFERENT
    assert (first == second).all()
    assert not changed(before, webui.facts())


def test_key_frames_and_initial_images_are_the_same_twice(webui: Webui, still: str) -> None:
    keys = {"key_frames": [{"frame": 0, "image": FIRST, "encoder": RGB}]}
    keyed = [webui.clip({**SHORT, **keys}).frames for _ in range(2)]
    assert (keyed[0] == keyed[1]).all()
    assert apart(keyed[0], webui.clip(SHORT).frames) > DIFFERENT
    between = {**SHORT, "start": "first", "last_frame": FIRST}
    request = {"init_images": [FIRST], **moving(**between)}
    shown = [webui.img2img(**request).frames for _ in range(2)]
    assert (shown[0] == shown[1]).all()


@pytest.mark.parametrize("engine", ["denoiser", "attention"])
def test_windows(webui: Webui, still: str, engine: str) -> None:
    first, second = (webui.clip({**WINDOWS, "context_engine": engine}).frames for _ in range(2))
    assert len(first) == WINDOWS["frames"]
    assert (first == second).all()


def test_hires_and_a_lora(webui: Webui, still: str) -> None:
    hires = {**HIRES, "hr_upscaler": "Latent (antialiased)"}  # ersatz has no other of this kind
    large = webui.clip(SHORT, **hires).frames
    assert large.shape == (4, 96, 96, 3)
    assert (webui.clip(SHORT, **hires).frames == large).all()
    plain, with_lora = (webui.clip(SHORT, prompt=QUICK["prompt"] + more).frames for more in ("", f" <lora:{LORA}:1>"))
    assert apart(plain, with_lora) > DIFFERENT


def test_interrupt(webui: Webui, still: str) -> None:
    webui.txt2img(batch_size=16, steps=1)  # ersatz keeps a model loaded in another way behind so many pictures
    before = webui.facts()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(attempt, webui, steps=100, **moving(**SHORT))
        while not running.done() and webui.step < 3:
            time.sleep(0.05)
        webui.interrupt()
        assert running.result().status == 200
    assert not changed(before, webui.facts())


def test_controlnet(webui: Webui, still: str, network: str, tmp_path: Path) -> None:
    """One image is a folder of it, and windows are the whole run where the frames do not see each other."""
    few: dict[str, Any] = {"frames": 6, "scale": 0, "context_length": 4, "context_overlap": 2}
    single = drawn(webui, network, {"image": encoded(HINTS[0])}, **few)
    assert apart(drawn(webui, network, folder(webui, tmp_path / "same", [0] * 6), **few), single) < ROUNDING
    each = folder(webui, tmp_path / "each", [0, 1, 1, 0, 0, 1])
    in_windows = drawn(webui, network, each, **few)
    assert apart(in_windows, single) > 0.04
    assert apart(drawn(webui, network, each, **few, context_engine="attention"), in_windows) < 0.01


OTHER_SCRIPTS: dict[str, tuple[tuple[Kind, ...], dict[str, Any], str]] = {
    "SelfAttentionGuidance": (
        (FORGE, REFORGE, ERSATZ), {"SelfAttentionGuidance Integrated": [True, 0.5, 2.0, 1.0]}, "SelfAttentionGuidance",
    ),
    "StyleAlign": ((FORGE, ERSATZ), {"StyleAlign Integrated": [True, 1.0]}, ""),
    "reference_only": ((FORGE, CLASSIC, ERSATZ), {}, "reference_only"),
    "reference_only on reForge": ((REFORGE,), {}, "do nothing"),
    "a cache of blocks": (
        (ERSATZ,), {"First Block Cache / TeaCache Integrated": [True, "First Block Cache", 1, 0.1, 0, False]}, "Cache",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_SCRIPTS)
def test_other_scripts_in_windows_are_right_or_refused(webui: Webui, still: str, name: str) -> None:
    kinds, scripts, refused = OTHER_SCRIPTS[name]
    if webui.server.host.kind not in kinds:
        pytest.skip(f"{webui.server.host.kind.name} has no {name}")
    titles = {title.casefold(): title for title in webui.get("/sdapi/v1/scripts")["txt2img"]}
    named = {
        next(full for title, full in titles.items() if title.startswith(script.casefold())): {"args": args}
        for script, args in scripts.items()
    } or reference(FIRST)

    def asked(**fields: Any) -> dict[str, Any]:
        return {**QUICK, "alwayson_scripts": {**moving(**fields)["alwayson_scripts"], **named}}

    reply = webui.reply("/sdapi/v1/txt2img", asked(**WINDOWS))
    if refused:
        assert (reply.status, refused in reply.sentence) == (422, True), reply.body
    else:
        assert reply.status == 200, reply.body
    alone = webui.reply("/sdapi/v1/txt2img", {**QUICK, "alwayson_scripts": named})
    attention = webui.reply("/sdapi/v1/txt2img", asked(**WINDOWS, context_engine="attention"))
    assert attention.status == (422 if "nothing" in refused else alone.status), attention.body


def test_memory_is_asked_for_the_frames_of_a_window(webui: Webui) -> None:
    """The host's own estimate, as its memory manager is told of it: of a long clip that of a short one."""
    kind = webui.server.host.kind
    if kind not in (FORGE, NEO, ERSATZ, REFORGE, CLASSIC):
        pytest.skip(f"{kind.name} estimates nothing")
    manager = "ldm_patched.modules.model_management" if kind in (REFORGE, CLASSIC) else "backend.memory_management"
    asked = []
    for frames in (FRAMES, 3 * FRAMES):
        with webui.calls(f"{manager}.load_models_gpu") as calls:
            webui.clip({"frames": frames, "context_length": FRAMES}, steps=1)
        asked.append(max(value for call in calls for value in call if isinstance(value, (int, float))))
    assert asked[0] == asked[1] > 0


def test_the_page(page: WebuiPage) -> None:
    for tab in TABS:
        page.go(tab)
        page.enable()
        page.photograph(f"smoke-{tab}")
