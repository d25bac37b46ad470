"""Presets: kept whole or not at all, and never a page that does not open because of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motion.errors import MotionError
from motion.settings.few_steps import RECIPES
from motion.settings.presets import BUNDLED, KEPT, Presets
from motion.settings.tab import Tab


@pytest.fixture
def presets(tmp_path: Path) -> Presets:
    return Presets(tmp_path / "presets.json")


def test_what_was_kept_comes_back(presets: Presets) -> None:
    tab = Tab(enabled=True, module="v3", frames=24, formats=("mp4", "gif"), loop="closed")
    presets.put("Löwe", tab)
    presets.put("a", Tab())
    assert presets.names() == ["a", "Löwe", *BUNDLED]
    assert presets.get(" Löwe ") == {name: getattr(tab, name) for name in KEPT}
    assert "enabled" not in KEPT
    presets.drop("Löwe")
    assert presets.names() == ["a", *BUNDLED]
    with pytest.raises(MotionError, match="is no preset"):
        presets.drop("never there")


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_presets_set_what_they_name_and_stay(presets: Presets, name: str) -> None:
    changed = presets.get(name)
    assert changed.keys() < set(KEPT)
    recipe = presets.recipe(name)
    assert (Tab(**changed) != Tab()) is (recipe is None), "a recipe sets what the host has"
    with pytest.raises(MotionError, match="stays"):
        presets.drop(name)
    presets.put(name, Tab(frames=5))
    assert presets.get(name)["frames"] == 5 and presets.recipe(name) is None
    presets.drop(name)
    assert presets.get(name) == changed


def test_every_recipe_is_a_preset(presets: Presets) -> None:
    assert [presets.recipe(recipe.name) for _, recipe in RECIPES] == [recipe for _, recipe in RECIPES]


def test_no_file_is_no_presets(presets: Presets) -> None:
    assert presets.names() == list(BUNDLED)
    with pytest.raises(MotionError, match="no preset 'a'"):
        presets.get("a")
    with pytest.raises(MotionError, match="needs a name"):
        presets.put("  ", Tab())
    assert not presets.path.exists()


def test_presets_of_another_version_lose_what_is_unknown_and_refuse_what_is_invalid(presets: Presets) -> None:
    presets.path.write_text('{"old": {"frames": 8, "gone": 1}, "bad": {"frames": 0}}')
    assert Tab(**presets.get("old")) == Tab(frames=8)
    with pytest.raises(MotionError, match="frames is 0"):
        presets.get("bad")


@given(text=st.text())
def test_any_file_is_presets_or_one_sentence(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("presets") / "presets.json"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        assert isinstance(Presets(path).names(), list)
    except MotionError as error:
        assert "move it away" in str(error)
