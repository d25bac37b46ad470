"""The tab in a browser: switch it on, choose a module, generate, see the clip, stop, paste the parameters back."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from zipfile import ZipFile

import pytest

from motion.settings.tab import TAB_FIELDS

from ..support.models import MODULE
from ..support.page import WebuiPage, prepare
from ..support.webui import QUICK, Webui

SETTINGS = {"frames": 8, "fps": 12}
"""Of a clip that is to be described: none of the defaults."""


@pytest.mark.parametrize("tab", ["txt2img", "img2img"])
def test_it_is_there_and_off(page: WebuiPage, tab: str) -> None:
    page.go(tab)
    assert page.motion.count() == 1
    assert not page.enabled
    page.enable()
    page.photograph(f"{tab}-open")
    shown = [row for row in TAB_FIELDS.values() if not row.needs and (tab == "img2img" or row.group != "img2img")]
    text = page.motion.text_content() or ""
    assert [row.label for row in shown if row.label not in text and row.name != "enabled"] == []


def test_it_asks_the_host_for_nothing_by_itself(page: WebuiPage) -> None:
    """Some versions of gradio call whatever is drawn anew a change: what answers to that may go round for ever."""
    prepare(page)
    page.page.wait_for_timeout(3000)
    assert page.requests(seconds=2) == []


def test_a_clip_in_the_gallery(page: WebuiPage) -> None:
    prepare(page)
    page.click("generate")
    page.clips.first.wait_for(state="visible")
    page.finished()
    page.photograph("clip")
    source = page.clips.first.get_attribute("src") or ""
    assert page.page.request.get(source if source.startswith("http") else f"{page.url}/{source}").ok


def test_off_it_makes_a_still(page: WebuiPage) -> None:
    prepare(page)
    page.enable(False)
    page.click("generate")
    page.page.locator("#txt2img_gallery img").first.wait_for(state="visible")
    page.finished()
    assert page.clips.count() == 0


def test_interrupt(page: WebuiPage) -> None:
    prepare(page, steps=150)
    page.click("generate")
    page.page.wait_for_selector("#txt2img_interrupt", state="visible")
    page.page.wait_for_timeout(1500)
    page.click("interrupt")
    start = time.monotonic()
    page.finished()
    page.photograph("interrupted")
    assert time.monotonic() - start < 20
    page.enable(False)
    page.host_fill("steps", 3)
    page.click("generate")
    page.page.locator("#txt2img_gallery img").first.wait_for(state="visible")


def test_what_cannot_be_done_is_said(page: WebuiPage) -> None:
    prepare(page)
    page.write("module", "no-such-module")
    page.click("generate")
    page.page.locator("#txt2img_results", has_text="no-such-module").wait_for(state="visible")
    page.page.wait_for_timeout(1000)
    said = page.page.locator("#html_log_txt2img .error").inner_text()
    assert "no-such-module" in said and "Refused" not in said
    page.photograph("refused")


def test_a_clip_is_saved_as_a_clip(page: WebuiPage, webui: Webui) -> None:
    prepare(page)
    page.click("generate")
    page.clips.first.wait_for(state="visible")
    page.finished()
    listed = page.page.locator("#download_files_txt2img", has_text=".gif")
    for button, kind in (("save", ".gif"), ("save_zip", ".zip")):
        page.page.click(f"#{button}_txt2img")
        listed.filter(has_text=kind).wait_for(state="visible")
    page.photograph("saved")
    archives = [path for path in webui.server.data.rglob("*.zip")]
    with ZipFile(archives[0]) as archive:
        assert any(name.endswith(".gif") for name in archive.namelist())


def test_the_upscale_button_on_a_clip_says_what_to_do(page: WebuiPage) -> None:
    prepare(page)
    page.click("generate")
    page.clips.first.wait_for(state="visible")
    page.finished()
    page.page.click("#txt2img_upscale")
    page.page.locator("#txt2img_results", has_text="takes one picture").wait_for(state="visible")
    page.clips.first.wait_for(state="detached")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_picture_of_the_windows(page: WebuiPage, theme: str) -> None:
    """It follows the module, the context's settings and the host's steps."""
    page.load(theme)
    prepare(page)
    page.unfold("Long clips")
    page.motion.get_by_text("All 16 frames move together in each step.").wait_for(state="visible")
    assert page.windows.count() == 0
    page.fill("frames", 64)
    page.windows.nth(2).locator("rect").nth(4).wait_for(state="attached")
    page.photograph(f"windows-{theme}")
    assert page.windows.count() == 3
    assert page.value("frames") == "64", "more than the slider reaches"
    page.host_fill("steps", 9)
    page.windows.nth(8).wait_for(state="attached")
    page.fill("context_overlap", 14)
    page.windows.nth(8).locator("rect").nth(20).wait_for(state="attached")
    page.photograph(f"windows-overlap-{theme}")
    page.fill("context_length", 4)
    page.motion.get_by_text("context overlap is 14: windows of 4 frames share 3 at most").wait_for(state="visible")


def test_a_clip_longer_than_the_slider(page: WebuiPage) -> None:
    prepare(page)
    page.fill("frames", 40)
    page.click("generate")
    page.clips.first.wait_for(state="visible")
    page.finished()
    page.page.locator("#html_info_txt2img", has_text="Motion frames: 40").first.wait_for(state="visible")
    page.photograph("long")


def make_clip(page: WebuiPage) -> None:
    """Generate the clip that is to be described."""
    prepare(page)
    for name, value in SETTINGS.items():
        page.fill(name, value)
    page.click("generate")
    page.clips.first.wait_for(state="visible")
    page.finished()


def assert_described(page: WebuiPage) -> None:
    """The page says what that clip was made with."""
    assert page.enabled
    assert page.host_value("prompt") == QUICK["prompt"]
    assert {name: int(page.value(name)) for name in SETTINGS} == SETTINGS
    assert MODULE in page.value("module")


def test_parameters_come_back(page: WebuiPage) -> None:
    make_clip(page)
    page.load()
    assert not page.enabled
    page.host_fill("prompt", "")
    page.paste()
    page.photograph("pasted")
    assert_described(page)


@pytest.mark.parametrize("name", ["gif", "webp", "apng"])
def test_a_clip_in_png_info(page: WebuiPage, webui: Webui, tmp_path: Path, name: str) -> None:
    (clip,) = webui.clip({**SETTINGS, "loop": "closed", "formats": [name]}).clips
    file = tmp_path / f"clip.{name}"
    file.write_bytes(base64.b64decode(clip.files[0]["base64"]))
    page.drop_into_png_info(file)
    page.photograph(f"png-info-{name}")
    page.send_from_png_info("txt2img")
    page.photograph(f"png-info-{name}-sent")
    assert_described(page)
    assert (page.chosen("loop"), page.chosen("formats")) == ("Closed", TAB_FIELDS["formats"].choices[name])


def test_sent_to_img2img_the_settings_come_along(page: WebuiPage) -> None:
    """The host carries prompt, steps and seed over; so do Motion's settings go, and the clip's first frame."""
    make_clip(page)
    page.send_to_img2img()
    page.photograph("sent-to-img2img")
    assert_described(page)
    page.click("generate")
    page.clips.first.wait_for(state="visible")
    page.finished()
    page.photograph("sent-to-img2img-generated")


def test_a_stills_parameters_switch_it_off(page: WebuiPage, webui: Webui) -> None:
    infotext = webui.txt2img().info["infotexts"][0]
    page.enable()
    page.host_fill("prompt", infotext)
    page.paste()
    assert not page.enabled
