"""The accordion as a user meets it: presets, rates, pasted parameters, LoRAs, the result; with keyboard and without."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from motion.weights.bundled import WEIGHTS

from ..support.models import MODULE
from ..support.page import WebuiPage, prepare
from ..support.webui import Webui

SECTIONS = ("Key frames", "LoRA and adapter", "Long clips", "Motion and noise", "Guidance", "Colours", "Output")
HOSTS_OWN = ".label-wrap"
"""Titles of accordions: their checkbox within a button is the host's."""
ROWS = """motion => [...motion.querySelectorAll(".gradio-row")].map((row) => {
    const bottoms = (parts) => [...row.querySelectorAll(parts)].filter((part) => part.offsetParent)
        .map((part) => Math.round(part.getBoundingClientRect().bottom));
    return [bottoms("input[type=range]"), bottoms(".head input[type=number]")];
})"""
"""Where the sliders of each row end, and where their numbers do."""
OLD = (
    "a cat\nSteps: 4, Sampler: DDIM, CFG scale: 7, Seed: 3, Size: 64x64, "
    f'AnimateDiff: "enable: True, model: {MODULE}.safetensors, video_length: 12, fps: 10, loop_number: 0, '
    'closed_loop: R-P, batch_size: 16, stride: 1, overlap: 4, interp: Off"'
)
WRONG = (
    "a cat\nSteps: 4, Sampler: DDIM, CFG scale: 7, Seed: 3, Size: 64x64, "
    "Motion module: gone [0123456789], Motion frames: 0, Motion FPS: 9"
)


def choose_preset(page: WebuiPage, name: str, by_typing: bool = False) -> None:
    box = page.element("preset").locator("input").first
    if by_typing:
        box.fill(name)
        box.press("Enter")
        page.element("preset_load").click()
    else:
        box.click()
        page.page.locator("ul.options li", has_text=name).first.click()
    page.page.wait_for_timeout(1000)


def test_presets_stay_in_both_tabs_and_are_deleted_after_a_question(page: WebuiPage) -> None:
    from playwright.sync_api import expect

    prepare(page)
    page.fill("frames", 24)
    box = page.element("preset").locator("input").first
    box.fill("mine")
    box.press("Enter")
    page.element("preset_save").click()
    page.page.wait_for_timeout(1000)
    page.load()
    page.enable()
    choose_preset(page, "mine")
    expect(page.block("frames").locator("input").first).to_have_value("24")
    page.go("img2img")
    page.enable()
    choose_preset(page, "mine", by_typing=True)
    expect(page.block("frames").locator("input").first).to_have_value("24")
    page.element("preset_delete").click()
    page.motion.get_by_text("It cannot be brought back").wait_for(state="visible")
    page.element("preset_yes").click()
    page.motion.get_by_text("It cannot be brought back").wait_for(state="hidden")
    page.go("txt2img")
    box.click()
    page.page.locator("ul.options li", has_text="Seamless loop").first.wait_for(state="visible")
    page.page.locator("ul.options li", has_text="mine").wait_for(state="detached")


def test_a_bundled_preset_leaves_what_it_does_not_name(page: WebuiPage) -> None:
    prepare(page)
    page.fill("fps", 11)
    choose_preset(page, "Long clip")
    assert (page.value("frames"), page.value("fps")) == ("64", "11")
    assert MODULE in page.value("module")


def test_rates_step_from_whole_numbers_and_others_are_typed(page: WebuiPage) -> None:
    page.enable()
    slider = page.block("fps").locator("input[type=range]")
    slider.focus()
    slider.press("ArrowRight")
    assert page.value("fps") == "9"
    for typed in ("23.976", "29.97", "0.5", "60"):
        page.fill("fps", typed)
        page.page.wait_for_timeout(300)
        assert page.value("fps") == typed


def test_parameters_of_the_old_extension(page: WebuiPage) -> None:
    page.host_fill("prompt", OLD)
    page.paste()
    assert page.enabled
    assert (page.value("frames"), page.value("fps")) == ("12", "10")
    assert MODULE in page.value("module")
    assert "old extension" in page.element("pasted").inner_text()


def test_what_cannot_be_pasted_is_said(page: WebuiPage) -> None:
    page.host_fill("prompt", WRONG)
    page.paste()
    assert (page.value("frames"), page.value("fps")) == ("16", "9")
    said = page.element("pasted").inner_text()
    assert "gone" in said and "Frames stays as it is" in said
    page.photograph("pasted-wrong")


def test_the_result_and_the_parameters_in_a_movie(page: WebuiPage, webui: Webui) -> None:
    """The clip stands under the gallery with its files, and the tab reads from one what it was made with."""
    pytest.importorskip("av", reason="movies are written with PyAV: pip install av")
    saved = webui.server.outputs
    prepare(page)
    page.fill("frames", 8)
    page.fill("fps", 12)
    page.choose("formats", "MP4")
    page.click("generate")
    result = page.page.locator("#motion_result_txt2img")
    result.wait_for(state="visible")
    page.finished()
    page.photograph("result")
    assert result.locator("a[download]").count() == 2
    source = result.locator("a[download]").last.get_attribute("href") or ""
    assert page.page.request.get(f"{page.url}/{source}").ok
    assert "as fast as the last clip" in page.element("cost").inner_text() or page.element("cost").inner_text()
    (movie,) = [file for file in webui.server.outputs - saved if file.suffix == ".mp4"]
    page.load()
    page.enable()
    page.unfold("Output")
    page.motion.get_by_test_id("Read the parameters of a clip-upload-button").set_input_files(movie)
    page.motion.get_by_text("are in the page").wait_for(state="visible")
    page.page.wait_for_timeout(2000)
    assert (page.value("frames"), page.value("fps")) == ("8", "12")


def test_the_module_that_was_used_last_is_chosen_again(page: WebuiPage, webui: Webui) -> None:
    webui.clip({"frames": 1}, steps=1)
    page.enable()
    page.motion.get_by_text("fits the loaded checkpoint").wait_for(state="visible")
    assert MODULE in page.value("module")


def test_frames_may_be_left_out_of_the_gallery(page: WebuiPage) -> None:
    prepare(page, steps=1)
    page.unfold("Output")
    page.choose("gallery", "None of them")
    page.click("generate")
    page.clips.first.wait_for(state="visible")
    page.finished()
    assert page.page.locator("#txt2img_gallery .thumbnail-item").count() <= 2, "the cover, large and small"


def test_loras_have_a_row_each(page: WebuiPage, webui: Webui) -> None:
    """A file in two folders is offered once, under a name that is taken back."""
    for folder in ("motion", "Lora"):
        where = webui.server.data / "models" / folder
        where.mkdir(parents=True, exist_ok=True)
        shutil.copy(WEIGHTS / "sprites-pan-left.safetensors", where)
    page.enable()
    page.page.wait_for_timeout(1500)
    page.unfold("LoRA and adapter")
    page.element("lora_chooser").locator("input").first.click()
    offered = page.page.locator("ul.options li", has_text="sprites-pan-left")
    assert offered.count() == 1
    offered.click()
    page.element("lora_add").click()
    row = page.motion.locator(".motion-lora")
    row.wait_for(state="visible")
    row.locator("input[type=text]").fill("0.7")
    row.locator("input[type=text]").press("Tab")
    page.photograph("lora")
    assert page.loras_text == '[["sprites-pan-left",0.7]]'
    row.get_by_role("button", name="Remove").press("Enter")
    row.wait_for(state="detached")


def test_sliders_of_a_row_stand_on_one_line(page: WebuiPage) -> None:
    """However long the help above each is, with the button for more and when that is open."""
    page.enable()
    for title in SECTIONS:
        page.unfold(title)
    page.motion.locator(".gradio-slider .motion-detail").locator("visible=true").first.click()
    page.photograph("sliders")
    rows = page.motion.evaluate(ROWS)
    assert max(len(sliders) for sliders, _ in rows) == 2
    assert [row for row in rows if any(len(set(bottoms)) > 1 for bottoms in row)] == []


def test_choices_and_their_groups_have_names(page: WebuiPage) -> None:
    page.enable()
    page.unfold("Motion and noise")
    page.motion.get_by_role("group", name="Loop").get_by_role("radio", name="Ping-pong").check()
    page.unfold("Cross-frame attention")
    page.choose("cross_frame", "All frames")
    norms = page.motion.get_by_role("checkbox", name="Norms over the clip")
    norms.check()
    page.motion.get_by_role("button", name="Norms over the clip: ?").press("Enter")
    page.motion.locator("p", has_text="personalised checkpoints rather have one").wait_for(state="visible")
    assert norms.is_checked()


def test_a_screen_reader_finds_its_way(page: WebuiPage) -> None:
    found = find_spec("axe_playwright_python")
    if found is None or found.origin is None:
        pytest.skip("accessibility is examined with axe-core: pip install axe-playwright-python")
    page.enable()
    page.page.wait_for_timeout(1500)
    for title in ("Get a motion module", *SECTIONS):
        page.unfold(title)
    page.page.evaluate((Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8") + ";0")
    context = {"include": [[f"[id='script_{page.tab}_motion_enabled']"]], "exclude": [[HOSTS_OWN]]}
    violations = page.page.evaluate("context => axe.run(context).then(result => result.violations)", context)
    serious = [(one["id"], one["nodes"][0]["html"]) for one in violations if one["impact"] in ("serious", "critical")]
    assert not serious
