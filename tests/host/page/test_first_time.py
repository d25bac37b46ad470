"""The first time, and the first time after an update: a fresh host, with what 0.1.0 has left in its folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest

from ..support.page import WebuiPage, browser_page
from ..support.server import PAGE, Server, booted
from ..support.webui import Webui

AFTER = "customscript/sd_webui_motion.py/img2img/"
SAVED = {
    f"{AFTER}{name}": value
    for name, value in {
        "Motion/value": True, "Frames/value": 24, "FPS/value": 12, "FPS/minimum": 0.1, "FPS/maximum": 30, "FPS/step": 1,
        "Loop/value": "none", "Motion LoRA/value": "", "Noise/value": "auto",
    }.items()
}  # fmt: skip
"""Defaults as 0.1.0 saved them: Motion on, in one tab."""
PRESET = {"old": {"module": "", "loras": [["pan", 0.8]], "frames": 40, "formats": ["webp"], "loop": "closed"}}
CLICKS = 8
"""That the first clip may take."""


@pytest.fixture(scope="module")
def fresh(webui: Webui, trained: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A host of its own, without a motion module."""
    data = tmp_path_factory.mktemp("fresh")
    (data / "motion-presets.json").write_text(json.dumps(PRESET), encoding="utf-8")
    with booted(webui.server.host, data, page={**PAGE, **SAVED}) as server:
        shutil.rmtree(data / "models" / "motion")
        yield server


@pytest.fixture
def new_page(browser: None, fresh: Server) -> Iterator[WebuiPage]:
    with browser_page(fresh.url) as shown:
        yield shown
        assert not shown.errors


def test_the_first_clip_takes_few_clicks(new_page: WebuiPage) -> None:
    """From the opened page: Motion, the demo models, Generate."""
    page, clicks = new_page, 0
    page.page.evaluate("() => { window.clicked = 0; document.addEventListener('click', e => clicked += e.isTrusted) }")
    page.enable()
    page.motion.get_by_text("There is no motion module yet").wait_for(state="visible")
    page.photograph("first-time")
    page.motion.get_by_role("button", name="Use the demo models").click()
    page.motion.get_by_text("press Generate").wait_for(state="visible")
    page.page.wait_for_function("() => (opts.sd_model_checkpoint || '').includes('sprites')")
    page.page.wait_for_timeout(1000)
    assert "sprites-motion" in page.value("module")
    page.click("generate")
    page.page.locator("#motion_result_txt2img img").wait_for(state="visible")
    page.finished()
    clicks = page.page.evaluate("clicked")
    page.photograph("first-clip")
    assert clicks <= CLICKS, clicks


def test_what_0_1_0_has_saved_counts(new_page: WebuiPage, fresh: Server) -> None:
    page = new_page
    page.go("img2img")
    assert page.enabled
    page.element("notes").locator("p").first.wait_for(state="visible")
    assert (page.value("frames"), page.value("fps"), page.chosen("loop")) == ("24", "12", "None")
    slider = page.block("fps").locator("input[type=range]")
    slider.press("ArrowRight")
    assert page.value("fps") == "13"
    box = page.element("preset").locator("input").first
    box.click()
    page.page.locator("ul.options li", has_text="old").first.click()
    page.page.wait_for_timeout(1500)
    assert (page.value("frames"), page.chosen("loop"), page.chosen("formats")) == ("40", "Closed", "WebP")
    assert page.loras_text == '[["pan", 0.8]]'
