"""The strip of key frames in a browser: add, order, place, preset, generate, and all of it back from the parameters."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from motion.demo.world import draw_clip, parse_caption

from ..support.models import RGB, SCRIBBLE
from ..support.page import WebuiPage, prepare
from ..support.webui import QUICK
from .test_curves import drawn, send

LABEL = "Key frames"


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Sprites of three colours."""
    files = []
    for colour in ("red", "blue", "green"):
        caption = parse_caption(QUICK["prompt"].replace("red", colour))
        files.append(tmp_path / f"{colour}.png")
        Image.fromarray(draw_clip(caption, np.random.default_rng(3))[0]).save(files[-1])
    return files


@pytest.fixture
def open_page(page: WebuiPage) -> WebuiPage:
    page.enable()
    page.unfold(LABEL)
    page.strip.wait_for(state="visible")
    return page


def test_pictures_find_places_and_change_them(open_page: WebuiPage, pictures: list[Path]) -> None:
    page = open_page
    page.photograph("strip-empty")
    page.add_keys(*pictures)
    assert page.key_values("frame") == ["0", "7", "15"]
    assert page.key_values("encoder") == [RGB] * 3
    red, blue, green = page.key_pictures()
    page.photograph("strip")
    page.keys.nth(0).get_by_label("Later").press("Enter")
    page.settle_keys()
    assert page.key_pictures() == [blue, red, green]
    assert page.key_values("frame") == ["0", "7", "15"]
    assert page.keys.nth(1).get_by_label("Later").evaluate("button => button === document.activeElement")
    page.keys.nth(2).drag_to(page.keys.nth(0))
    page.settle_keys()
    assert page.key_pictures() == [green, blue, red]
    page.keys.nth(0).get_by_label("Frame").fill("9")
    page.keys.nth(0).get_by_label("Frame").press("Tab")
    page.settle_keys()
    assert page.key_pictures() == [blue, green, red]
    assert page.key_values("frame") == ["7", "9", "15"]
    page.keys.nth(0).get_by_label("Remove").click()
    page.settle_keys()
    assert page.key_pictures() == [green, red]


def test_a_picture_that_is_dropped_on_the_line_stands_there(open_page: WebuiPage, pictures: list[Path]) -> None:
    page = open_page
    line = page.strip.locator(".motion-strip-line")
    box = line.bounding_box()
    assert box is not None
    data = page.page.evaluate_handle(
        """bytes => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "red.png", {type: "image/png"}));
            return data;
        }""",
        list(pictures[0].read_bytes()),
    )
    where = {"dataTransfer": data, "clientX": box["x"] + box["width"] * 0.4, "clientY": box["y"] + 20}
    for event in ("dragover", "drop"):
        line.dispatch_event(event, where)
    page.keys.first.wait_for(state="visible")
    assert page.key_values("frame") == ["6"]
    page.keys.first.drag_to(line, target_position={"x": box["width"] - 2, "y": 20})
    page.settle_keys()
    assert page.key_values("frame") == ["15"]


def test_presets_and_what_is_wrong(open_page: WebuiPage, pictures: list[Path]) -> None:
    page = open_page
    page.add_keys(*pictures)
    page.strip.get_by_role("button", name="A to B").click()
    page.strip.get_by_text("A to B takes 2 images, and there are 3").wait_for(state="visible")
    page.photograph("strip-problem")
    page.keys.nth(2).get_by_label("Remove").click()
    page.strip.get_by_role("button", name="Prediction").click()
    page.settle_keys()
    assert page.key_values("frame") == ["0", "1"]
    page.strip.get_by_role("button", name="Sketch to video").click()
    page.settle_keys()
    assert page.key_values("encoder") == [SCRIBBLE] * 2
    page.keys.nth(0).get_by_label("Frame").fill("12")
    page.keys.nth(0).get_by_label("Frame").press("Tab")
    page.settle_keys()
    assert page.strip.locator(".motion-strip-problem").inner_text() == ""
    page.fill("frames", 8)
    page.strip.get_by_text("key frame 12 is out of range").first.wait_for(state="visible")


@pytest.mark.parametrize("tab", ["txt2img", "img2img"])
def test_the_strip_is_in_both_tabs(page: WebuiPage, pictures: list[Path], tab: str) -> None:
    page.go(tab)
    page.enable()
    page.unfold(LABEL)
    page.add_keys(pictures[0])
    assert page.key_values("frame") == ["0"]


STRENGTHS = ["@0: 1, @0.5: 0.2", "0.5"]
"""Of the first picture over the steps, and of the last."""


def test_a_clip_obeys_the_strip_and_its_parameters_bring_it_back(
    open_page: WebuiPage, pictures: list[Path], tmp_path: Path
) -> None:
    """From the parameters of the last job, which the host writes before it decodes, and whole from the clip's file."""
    page = open_page
    prepare(page)
    page.add_keys(*pictures[:2])
    page.strip.get_by_role("button", name="A to B").click()
    for card, strength in enumerate(STRENGTHS):
        page.keys.nth(card).get_by_label("Strength").fill(strength)
        page.keys.nth(card).get_by_label("Strength").press("Tab")
        page.settle_keys()
    shown = page.key_pictures()
    first = drawn(page)
    page.photograph("strip-clip")
    said = re.sub(r"[\\\"]", "", page.page.locator("#txt2img_results").inner_text())
    asked = (f"{place}={image}={how} {RGB}" for place, image, how in zip((0, -1), shown, STRENGTHS, strict=True))
    assert re.sub(r"[\\\"]", "", f"Motion key frames: {'; '.join(asked)}") in said
    assert f"Key frames: 0={STRENGTHS[0]} 15=0.5" in said and "SparseCtrl strength: " in said
    page.load()
    page.host_fill("prompt", "")
    page.paste()
    assert _came_back(page, "strip-pasted") == (shown, STRENGTHS, ["0", "15"])
    send(page, first, tmp_path)
    assert _came_back(page, "strip-sent") == (shown, STRENGTHS, ["0", "15"])
    assert drawn(page) == first


def _came_back(page: WebuiPage, name: str) -> tuple[list[str], list[str], list[str]]:
    """The pictures of the strip, their strengths and their frames."""
    page.unfold(LABEL)
    page.keys.nth(1).wait_for(state="visible")
    page.photograph(name)
    return page.key_pictures(), page.key_values("strength"), page.key_values("frame")


def test_pictures_keep_their_order_and_go_by_pointer_and_keys(open_page: WebuiPage, pictures: list[Path]) -> None:
    page = open_page
    page.add_keys(*pictures)
    order = page.key_pictures()
    page.add_keys(pictures[0])
    assert page.key_pictures() == [*order, order[0]]
    page.strip.get_by_role("button", name="Storyboard").click()
    page.settle_keys()
    assert page.key_pictures() == [*order, order[0]]
    thumb, line = page.strip.locator("figure").nth(1), page.strip.locator(".motion-strip-line").bounding_box()
    box = thumb.bounding_box()
    assert box is not None and line is not None
    page.page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.page.mouse.down()
    page.page.mouse.move(line["x"] + line["width"] * 7 / 15, box["y"] + 20, steps=4)
    page.page.mouse.up()
    page.settle_keys()
    assert page.key_values("frame")[1] == "7"
    thumb.press("ArrowRight")
    page.settle_keys()
    assert page.key_values("frame")[1] == "8"
    thumb.click()
    page.strip.locator("dialog").wait_for(state="visible")
    page.photograph("strip-large")
    page.strip.get_by_role("button", name="Close").click()
    page.strip.get_by_role("button", name="Clear all").click()
    page.keys.first.wait_for(state="detached")


def test_what_is_wrong_is_said_where_it_is(open_page: WebuiPage, pictures: list[Path], tmp_path: Path) -> None:
    page, broken = open_page, tmp_path / "broken.png"
    broken.write_text("no picture")
    page.strip.locator("input[type=file]").set_input_files([pictures[0], broken, pictures[1]])
    page.keys.nth(1).wait_for(state="visible")
    page.settle_keys()
    assert "broken.png" in page.strip.locator(".motion-strip-problem").inner_text()
    assert page.key_values("frame") == ["0", "15"]
    strength = page.keys.first.get_by_label("Strength")
    strength.fill("0")
    strength.press("Tab")
    page.keys.first.get_by_text("strength 0 is out of range").wait_for(state="visible")
    assert page.key_values("strength") == ["1", "1"]
    page.fill("frames", 20)
    page.page.wait_for_timeout(1000)
    assert page.key_values("frame") == ["0", "19"], "the last frame follows"
    page.page.set_viewport_size({"width": 390, "height": 1800})
    page.photograph("strip-390")
    assert page.page.evaluate("document.documentElement.scrollWidth") == 390
