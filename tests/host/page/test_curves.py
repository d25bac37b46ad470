"""Curves on the page: typed, drawn with, read back from the clip's file, and drawn with again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from motion import load
from motion.training.lora import motion_layers

from ..support.models import MODULE
from ..support.networks import LORA as IMAGE_LORA
from ..support.page import WebuiPage, prepare
from ..support.webui import Webui
from ..test_loras import processor, save

TYPED = {
    "Motion and noise": {"scale": "0: 1, -1: 0.3"},
    "Temporal layers": {"attention_scale": "@0: 1, @1: 0.6", "block_effects": 'down.0:0.5, up:"0: 1, -1: 0.5"'},
    "Guidance": {"cfg_curve": "0: 7, -1: 4"},
}
WEIGHT = "0: 0, -1: 1"
LORA = "drift"
OLD = f"""a red circle moving right
Steps: 3, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 64x64, Motion module: {MODULE}, Motion frames: 8, \
Motion FPS: 12, Motion scale: 0.8, Motion LoRA: {LORA}:0.7, Motion key scale: 0.5, Motion version: 0.1.0"""


def add_from_list(page: WebuiPage, ids: str, name: str) -> None:
    """Choose a file from a list that has rows, and press its Add."""
    page.element(f"{ids}_chooser").locator("input").first.click()
    page.page.locator("ul.options li", has_text=name).first.click()
    page.element(f"{ids}_add").click()
    page.motion.locator(f".motion-{ids}").wait_for(state="visible")


def type_into_row(page: WebuiPage, ids: str, part: str, text: str) -> None:
    box = page.motion.locator(f".motion-{ids} input[type=text][data-part='{part}']")
    box.fill(text)
    box.press("Tab")


def values(page: WebuiPage) -> dict[str, Any]:
    """What the page holds of what was typed; lists as the JSON in their fields says."""
    shown = {name: page.value(name) for rows in TYPED.values() for name in rows}
    lists = {name: json.loads(page.element(name).locator("textarea").input_value()) for name in ("loras", "modules")}
    return {**shown, **lists, "effect_mask": page.value("effect_mask")}


def send(page: WebuiPage, clip: bytes, folder: Path) -> None:
    """Read the clip's parameters in PNG Info, and send them to a page that was loaded anew."""
    file = folder / "clip.gif"
    file.write_bytes(clip)
    page.load()
    page.drop_into_png_info(file)
    page.send_from_png_info("txt2img")
    assert page.enabled


def drawn(page: WebuiPage) -> bytes:
    """Generate, and the file of the clip."""
    page.generate()
    page.clips.first.wait_for(state="visible")
    source = page.clips.first.get_attribute("src") or ""
    found = page.page.request.get(source if source.startswith("http") else f"{page.url}/{source}")
    assert found.ok
    return found.body()


def test_curves_are_typed_and_come_back_from_the_clip(page: WebuiPage, webui: Webui, tmp_path: Path) -> None:
    folder = webui.server.data / "models" / "motion"
    save(folder / f"{LORA}.safetensors", motion_layers(load(folder / f"{MODULE}.safetensors")), processor, seed=1)
    mask = webui.server.data / "left.png"
    Image.fromarray(np.repeat([[255, 0]], 2, axis=0).astype(np.uint8)).save(mask)
    prepare(page)
    page.page.wait_for_timeout(1500)
    for section, rows in TYPED.items():
        page.unfold(section)
        for name, text in rows.items():
            page.fill(name, text)
    page.fill("effect_mask", str(mask))
    add_from_list(page, "further", MODULE)
    type_into_row(page, "further", "effect", "0: 0.4, -1: 0")
    type_into_row(page, "further", "end", "0.7")
    page.unfold("LoRA and adapter")
    add_from_list(page, "lora", LORA)
    type_into_row(page, "lora", "1", WEIGHT)
    page.photograph("curves-typed")
    assert page.motion.locator("svg:has(polyline)").count() >= 3, "curves are drawn as they are typed"
    typed, first = values(page), drawn(page)
    page.photograph("curves-drawn")

    send(page, first, tmp_path)
    assert values(page) == typed
    page.photograph("curves-sent")
    assert drawn(page) == first


def test_loras_in_the_lines_of_a_prompt_come_back_from_the_clip(page: WebuiPage, webui: Webui, tmp_path: Path) -> None:
    """One of the host's own, which changes UNet and text encoder, and a motion LoRA."""
    temporal = motion_layers(load(webui.server.data / "models" / "motion" / f"{MODULE}.safetensors"))
    save(webui.server.data / "models" / "Lora" / f"{LORA}.safetensors", temporal, processor, seed=1)
    webui.post("/sdapi/v1/refresh-loras")
    circle = "a red circle moving right"
    prepare(page, prompt=f"0: {circle} <lora:{IMAGE_LORA}:1>\n-1: {circle} <lora:{LORA}:0: 0, -1: 1>")
    typed, first = page.host_value("prompt"), drawn(page)
    page.photograph("loras-in-lines")
    send(page, first, tmp_path)
    assert page.host_value("prompt") == typed
    assert drawn(page) == first
    page.host_fill("prompt", circle)
    assert drawn(page) != first


def test_parameters_of_0_1_0_are_pasted(page: WebuiPage, webui: Webui) -> None:
    page.host_fill("prompt", OLD)
    page.paste()
    assert page.enabled
    assert (page.value("scale"), page.value("frames"), page.value("attention_scale")) == ("0.8", "8", "1")
    assert page.loras_text == f'[["{LORA}", 0.7]]'
    assert page.element("modules").locator("textarea").input_value() == ""
