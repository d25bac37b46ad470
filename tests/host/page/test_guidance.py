"""The techniques of the section Guidance by clicks: each acts, the parameters bring all back, stills stay the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from motion import video
from motion.demo.world import draw_clip, parse_caption
from motion.fields.table import Choice
from motion.settings.tab import TAB_FIELDS

from ..support.page import WebuiPage, prepare
from ..support.webui import QUICK, Webui

TECHNIQUES: dict[str, list[dict[str, str]]] = {
    "all but two": [
        {"cfg_first": "1", "cfg_last": "9"},
        {"temporal_guidance": "1.5"},
        {"rescale_cfg": "0.7"},
        {"threshold": "0.9"},
    ],
    "the others": [{"cfg_low": "2", "cfg_low_start": "0.25"}, {"hold_keys": "Noised"}],
}
"""Switched on one after the other, for what sets the CFG scale does not go together."""


def generated(page: WebuiPage, webui: Webui) -> video.Clip:
    """The clip that the page draws, as its file has it."""
    before = webui.server.outputs
    page.generate()
    (file,) = [path for path in webui.server.outputs - before if path.suffix == ".gif"]
    return video.read(file)


def give_a_first_frame(page: WebuiPage, picture: Path) -> None:
    Image.fromarray(draw_clip(parse_caption(QUICK["prompt"]), np.random.default_rng(3))[0]).save(picture)
    page.unfold("Key frames")
    page.add_keys(picture)


def choose(page: WebuiPage, name: str, value: str) -> None:
    if isinstance(TAB_FIELDS[name], Choice):
        page.block(name).get_by_text(value, exact=True).click()
    else:
        page.fill(name, value)
    page.page.wait_for_timeout(500)  # what depends on it appears


def shown(page: WebuiPage, name: str) -> str:
    return page.chosen(name) if isinstance(TAB_FIELDS[name], Choice) else page.value(name)


@pytest.mark.parametrize("name", TECHNIQUES)
def test_techniques_by_clicks(page: WebuiPage, webui: Webui, still: str, tmp_path: Path, name: str) -> None:
    prepare(page, steps=4)
    page.fill("frames", 4)
    give_a_first_frame(page, tmp_path / "first.png")
    page.unfold("Guidance")
    clip, wanted = generated(page, webui), {}
    for fields in TECHNIQUES[name]:
        for field, value in fields.items():
            choose(page, field, value)
        before, clip, wanted = clip, generated(page, webui), {**wanted, **fields}
        assert (clip.frames != before.frames).any(), fields
    page.photograph(f"guidance-{name}")
    page.load()
    page.host_fill("prompt", clip.parameters)
    page.paste()
    page.unfold("Guidance")
    assert {field: shown(page, field) for field in wanted} == wanted
    again = generated(page, webui)
    assert again.parameters == clip.parameters
    assert (again.frames == clip.frames).all()
