"""A movie is dropped on the page, and drawn anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from motion.demo.world import draw_clip, parse_caption
from motion.video.read import read
from motion.video.write import write

from ..support.page import WebuiPage, prepare
from ..support.webui import QUICK, Webui

FRAMES, RATE = 12, 10


@pytest.mark.parametrize("tab", ["txt2img", "img2img"])
def test_a_dropped_movie_is_followed_and_drawn(page: WebuiPage, tmp_path: Path, tab: str) -> None:
    """In img2img without an initial image."""
    pytest.importorskip("av", reason="movies are written with PyAV: pip install av")
    movie = tmp_path / "dropped.mp4"
    write(draw_clip(parse_caption(QUICK["prompt"]), np.random.default_rng(4), frames=FRAMES), movie, RATE, "")
    page.go(tab)
    prepare(page)
    page.unfold("Source clip")
    page.element("source_drop").locator("input[type=file]").set_input_files(movie)
    page.motion.get_by_text(f"{FRAMES} frames at {RATE} FPS").wait_for(state="visible")
    page.page.wait_for_timeout(1000)
    assert (page.value("frames"), float(page.value("fps"))) == (str(FRAMES), RATE)
    assert (page.host_value("width"), page.host_value("height")) == ("64", "64")
    page.fill("frames", FRAMES - 2)
    page.photograph(f"source-{tab}")
    page.click("generate")
    page.finished()
    page.clips.first.wait_for(state="attached")
    page.photograph(f"source-{tab}-drawn")


def test_a_result_goes_on_at_a_click(page: WebuiPage) -> None:
    """Its last frames are given, and the new clip begins with the old one."""
    page.go("txt2img")
    prepare(page)
    page.fill("frames", FRAMES)
    page.generate()
    page.page.locator("#motion_result_txt2img button").click()
    page.page.locator("#txt2img_interrupt").wait_for(state="visible")
    page.finished()
    assert page.value("extend") == "8" and page.value("source").endswith(".gif")
    page.page.locator("#motion_result_txt2img a").first.wait_for(state="visible")
    result = page.page.locator("#motion_result_txt2img a").first.get_attribute("title") or ""
    assert len(read(Path(result)).frames) == FRAMES + FRAMES - 8
    page.photograph("extended")


def test_a_folder_of_clips_is_described_or_it_is_said_why_not(page: WebuiPage, webui: Webui) -> None:
    """These hosts are offline, so their interrogator has no model: nothing is written."""
    clips = webui.server.data / "to-describe"
    clips.mkdir(exist_ok=True)
    write(
        draw_clip(parse_caption(QUICK["prompt"]), np.random.default_rng(4), frames=FRAMES), clips / "a.apng", RATE, ""
    )
    page.go("txt2img")
    prepare(page)
    page.unfold("Source clip")
    page.fill("source", clips.name)
    page.element("source_captions").click()
    page.motion.get_by_text("could not describe a clip").wait_for(state="visible")
    page.photograph("captions")
    assert [file.name for file in clips.iterdir()] == ["a.apng"]
    page.fill("source", f"{clips.name}/a.apng")
    page.motion.get_by_text(f"{FRAMES} frames at {RATE} FPS").wait_for(state="visible")
    assert page.element("source_said").locator("img").count() > 0
    page.photograph("source-strip")
