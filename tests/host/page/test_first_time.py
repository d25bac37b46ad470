"""The first time, and the first time after an update: a fresh host, with what 0.1.0 has left in its folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from motion.demo.world import draw_clip, parse_caption
from motion.weights.bundled import DEMO

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
FIRST_CLIP, WALK = 8, 12
"""Clicks that the first clip may take, and with it one that follows a picture, kept as a preset and loaded again."""
COUNT = """addEventListener("pointerdown", (event) => {
    if (event.isTrusted) sessionStorage.clicks = 1 + Number(sessionStorage.clicks || 0);
}, true)"""
"""What the page is to do to count them, over reloads as well."""


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


def generate(page: WebuiPage, name: str) -> None:
    """Draw a clip and wait until it is shown."""
    page.generate()
    page.page.locator("#motion_result_txt2img img").wait_for(state="visible")
    page.photograph(name)


def clicks(page: WebuiPage) -> int:
    return int(page.page.evaluate("sessionStorage.clicks"))


def test_the_first_time_takes_few_clicks(new_page: WebuiPage, tmp_path: Path) -> None:
    """From the opened page: Motion, the demo models, Generate; then a key frame, a preset, the page loaded again."""
    page, picture = new_page, tmp_path / "start.png"
    page.page.add_init_script(COUNT)
    page.load()
    page.enable()
    page.motion.get_by_text("There is no motion module yet").wait_for(state="visible")
    page.photograph("first-time")
    page.motion.get_by_role("button", name="Use the demo models").click()
    page.motion.get_by_text("press Generate").wait_for(state="visible")
    page.page.wait_for_function("() => (opts.sd_model_checkpoint || '').includes('sprites')")
    page.page.wait_for_timeout(1000)
    assert "sprites-motion" in page.value("module")
    generate(page, "first-clip")
    assert clicks(page) <= FIRST_CLIP, clicks(page)

    Image.fromarray(draw_clip(parse_caption(DEMO["prompt"]), np.random.default_rng(3))[0]).save(picture)
    page.unfold("Key frames")
    with page.page.expect_file_chooser() as chooser:
        page.strip.locator("input[type=file]").click()
    chooser.value.set_files(picture)
    page.keys.first.wait_for(state="visible")
    page.settle_keys()
    shown = page.key_pictures()
    generate(page, "first-key-frame")
    infotext = page.page.locator("#html_info_txt2img").first.inner_text()
    assert f"Motion key frames: 0={shown[0]}" in infotext

    box = page.element("preset").locator("input").first
    box.click()
    box.fill("mine")
    box.press("Enter")
    page.element("preset_save").click()
    page.page.wait_for_timeout(1000)
    page.load()
    page.enable()
    box.click()
    page.page.locator("ul.options li", has_text="mine").first.click()
    page.page.wait_for_timeout(1500)
    page.unfold("Key frames")
    page.keys.first.wait_for(state="visible")
    page.photograph("first-reload")
    assert (page.key_pictures(), "sprites-motion" in page.value("module")) == (shown, True)
    assert clicks(page) <= WALK, clicks(page)


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
