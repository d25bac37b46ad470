"""Few-step files are told by their published names, and what they were distilled for by the files' pages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from motion.settings.few_steps import RECIPES, SCHEDULE, contradiction, find_recipe, recipe_of
from motion.settings.settings import FIELDS, Clip

ROOT = Path(__file__).parents[2]
PUBLISHED = {
    "animatediff_lightning_1step_comfyui": ("euler", "1", "1"),
    "animatediff_lightning_4step_diffusers": ("euler", "4", "1"),
    "AnimateDiff-Lightning-8-step": ("euler", "8", "1"),
    "AnimateLCM_sd15_t2v": ("lcm", "6", "1.5"),
    "AnimateLCM_sd15_t2v_lora": ("lcm", "6", "1.5"),
    "lcm-lora-sdv1-5": ("lcm", "6", "1.5"),
    "Hyper-SD15-4steps-lora": ("ddim", "4", "1"),
    "Hyper-SDXL-8steps-lora": ("ddim", "8", "1"),
}
OTHERS = (
    "v3_sd15_mm",
    "mm_sd_v15_v2",
    "v3_sd15_adapter",
    "lightning_strike",
    "Hyper-SD15-8steps-CFG-lora",
    "Hyper-SD15-1step-lora",
)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_names_have_their_recipe(name: str) -> None:
    recipe = recipe_of(name)
    assert recipe is not None
    assert tuple(recipe.settings[key] for key in ("sampler", "steps", "cfg")) == PUBLISHED[name]


@pytest.mark.parametrize("name", OTHERS)
def test_other_names_have_none(name: str) -> None:
    assert recipe_of(name) is None


def test_every_recipe_is_a_clip_that_can_be_drawn() -> None:
    for _, recipe in RECIPES:
        Clip(**{name: FIELDS[name].parse(text) for name, text in recipe.settings.items()})


def test_every_recipe_has_its_place_in_a_webui() -> None:
    for _, recipe in RECIPES:
        webui = recipe.in_webui()
        assert webui.settings.keys() >= {"sampler", SCHEDULE, "steps", "CFG scale"} >= webui.exact
        assert webui.settings["steps"] == recipe.settings["steps"]
        assert contradiction(webui, webui.settings, [recipe.lora]) == ""
        if "steps" in recipe.exact:
            assert f"{SCHEDULE} Karras" in contradiction(webui, {**webui.settings, SCHEDULE: "Karras"}, [])


def test_downloads_that_say_how_many_steps_have_a_recipe() -> None:
    for model in json.loads((ROOT / "motion/weights/known_models.json").read_text(encoding="utf-8")):
        steps = "step" in model["note"]
        assert (recipe_of(Path(model["file"]).stem) is not None) is steps, model["file"]


def test_the_module_comes_first() -> None:
    recipe = find_recipe(["animatediff_lightning_2step_comfyui", "lcm-lora-sdv1-5"])
    assert recipe is not None and recipe.settings["steps"] == "2"
    assert find_recipe(["v3_sd15_mm", "ink"]) is None


def test_what_contradicts_a_recipe_is_one_sentence() -> None:
    lightning, lcm = recipe_of("animatediff_lightning_4step_comfyui"), recipe_of("AnimateLCM_sd15_t2v")
    assert lightning is not None and lcm is not None
    assert contradiction(lightning, lightning.settings, []) == ""
    assert contradiction(lightning, {**lightning.settings, "cfg": "2"}, []) == ""
    assert contradiction(lightning, {**lightning.settings, "steps": "25"}, []).endswith("steps 25 will not do")
    assert "AnimateLCM_sd15_t2v_lora" in contradiction(lcm, lcm.settings, ["ink"])
    assert contradiction(lcm, {**lcm.settings, "steps": "4"}, ["AnimateLCM_sd15_t2v_lora"]) == ""
