"""Files for few steps on the page: what is said of them, one button, and presets; and the step cache."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.models import MODULE
from ..support.networks import LORA
from ..support.page import WebuiPage, prepare
from ..support.webui import Webui
from .test_curves import drawn
from .test_tab import choose_preset

LIGHTNING, LCM = "animatediff_lightning_4step_comfyui", "AnimateLCM_sd15_t2v"


@pytest.fixture
def files(webui: Webui) -> Iterator[None]:
    """A module and a LoRA under published names."""
    models = webui.server.data / "models"
    module, lora = (models / part for part in (f"motion/{MODULE}.safetensors", f"Lora/{LORA}.safetensors"))
    made = [models / f"motion/{name}.safetensors" for name in (LIGHTNING, LCM)]
    for target in made:
        shutil.copy(module, target)
    made.append(Path(shutil.copy(lora, models / f"Lora/{LCM}_lora.safetensors")))
    yield
    for target in made:
        target.unlink()


def shown(page: WebuiPage) -> list[str]:
    """Sampler, schedule type, steps and CFG scale of the page."""
    boxes = [page.page.locator(f"#txt2img_{name} input").first for name in ("sampling", "scheduler")]
    scheduler = [box.input_value() for box in boxes if box.count()]
    return [*scheduler, *map(page.host_value, ("steps", "cfg_scale"))]


def test_a_module_for_few_steps_offers_its_recipe(page: WebuiPage, files: None) -> None:
    prepare(page, steps=20, cfg_scale=7)
    page.element("use_recipe").wait_for(state="hidden")
    assert not page.element("recipe_said").inner_text().strip()
    page.element("refresh").click()
    page.choose("module", LIGHTNING)
    said = page.motion.get_by_text("AnimateDiff-Lightning, 4 steps was distilled for")
    said.wait_for(state="visible")
    page.photograph("recipe-offered")
    page.element("use_recipe").click()
    said.wait_for(state="hidden")
    page.element("use_recipe").wait_for(state="hidden")
    assert shown(page)[0] == "Euler" and shown(page)[-2:] == ["4", "1"]
    assert "SGM Uniform" in shown(page) or len(shown(page)) == 3
    page.photograph("recipe-used")
    page.host_fill("steps", 6)
    page.motion.get_by_text("steps 6 will not do").wait_for(state="visible")
    choose_preset(page, "Hyper-SD, 8 steps")
    assert shown(page)[-2:] == ["8", "1"]


def test_its_lora_joins_the_prompt(page: WebuiPage, files: None) -> None:
    prepare(page, prompt="a red circle")
    page.element("refresh").click()
    page.choose("module", LCM)
    page.element("use_recipe").wait_for(state="visible")
    page.element("use_recipe").click()
    page.element("use_recipe").wait_for(state="hidden")
    assert page.host_value("prompt") == f"a red circle <lora:{LCM}_lora:0.8>"
    assert shown(page)[0] == "LCM" and shown(page)[-2:] == ["6", "1.5"]
    page.photograph("recipe-with-lora")


def test_a_cached_clip_comes_back_from_its_parameters(page: WebuiPage, tmp_path: Path) -> None:
    """PNG Info, sent: the same bytes."""
    prepare(page, steps=8)
    page.fill("frames", 4)
    page.unfold("Motion and noise")
    page.choose("cache", "Balanced")
    first = drawn(page)
    file = tmp_path / "clip.gif"
    file.write_bytes(first)
    page.load()
    page.drop_into_png_info(file)
    page.send_from_png_info("txt2img")
    assert page.value("cache") == "Balanced"
    assert drawn(page) == first
