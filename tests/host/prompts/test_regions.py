"""Prompts that count in places: masks of the parts that AND joins, and other extensions' regions beside a clip."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from motion.video.write import write

from ..support.webui import Frames, Webui, apart, changed, moving
from ..test_api import AS_A_BATCH
from ..test_features import HIRES

SIDE, FRAMES = 64, 6
CIRCLE, SQUARE = "a red circle, still", "a blue square, still"
BOTH = f"{CIRCLE} AND {SQUARE}"
MASKS = "left.png;right.png"
SAME, DIFFERENT = 0.05, 0.5
"""Mean difference of 255: what other sizes of a batch round otherwise, and what is not the same clip."""
IN_WINDOWS = {"context_length": 4, "context_overlap": 2}
DIRECTION, SPLIT, RATIO = "Columns", "Matrix", "1,1"
PROMPTER, COUPLE, LATENT_COUPLE = "Regional Prompter", "Forge Couple", "Latent Couple extension"


def prompter(mode: str) -> dict[str, Any]:
    """Regional Prompter with two columns."""
    settings = [True, False, SPLIT, DIRECTION, "Mask", "Prompt", RATIO, "0.2", False, False, False, mode]
    return {PROMPTER: {"args": [*settings, [], "0", "0", "0.4", None, "0", "0", False]}}


REGIONS: dict[str, tuple[dict[str, Any], str]] = {
    PROMPTER: (prompter("Attention"), f"{CIRCLE} BREAK {SQUARE}"),
    COUPLE: (
        {COUPLE: {"args": [True, False, "Basic", "", "Horizontal", "None", 0.5, [], "off", False, False]}},
        f"{CIRCLE}\n{SQUARE}",
    ),
    LATENT_COUPLE: (
        {LATENT_COUPLE: {"args": [True, "1:1,1:2,1:2", "0:0,0:0,0:1", "0.2,0.8,0.8", 20]}},
        f"a scene AND {BOTH}",
    ),
}
"""What each is told for two halves, and the prompt that it reads."""


@pytest.fixture(scope="module", autouse=True)
def masks(webui: Webui) -> None:
    """Pictures of masks in the host's data folder, and a clip of one that grows to the right."""
    left = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    left[:, :, : SIDE // 2] = 255
    growing = np.zeros((FRAMES, SIDE, SIDE, 3), np.uint8)
    for number, frame in enumerate(growing):
        frame[:, : SIDE * number // (FRAMES - 1)] = 255
    pictures = {"left.png": left, "right.png": 255 - left, "white.png": left | 255, "black.png": left & 0}
    shades = {"fifth.png": left * 0 + 51, "left204.png": left // 255 * 204, "right204.png": (255 - left) // 255 * 204}
    for name, pixels in {**pictures, **shades, "growing.apng": growing}.items():
        write(pixels, webui.server.data / name, 8, "")


@pytest.fixture
def others(request: pytest.FixtureRequest, webui: Webui) -> str:
    """The title of an extension that the host has."""
    title: str = request.param
    if title.casefold() not in webui.get("/sdapi/v1/scripts")["txt2img"]:
        pytest.skip(f"this host has no {title}: name its checkout in SD_WEBUI_EXTENSIONS")
    return title


def drawn(webui: Webui, prompt: str, scripts: dict[str, Any] | None = None, **fields: Any) -> Frames:
    """A clip with further scripts; some hosts show something behind it."""
    asked = {**moving(frames=FRAMES, **fields)["alwayson_scripts"], **(scripts or {})}
    request = {"prompt": prompt, "steps": 3, "sampler_name": "Euler"}
    return webui.txt2img(**request, alwayson_scripts=asked).pictures[1 : 1 + FRAMES]


def test_a_part_counts_as_much_as_its_mask_is_light(webui: Webui, still: str) -> None:
    plain, one, before = drawn(webui, BOTH), drawn(webui, CIRCLE), webui.facts()
    assert apart(drawn(webui, BOTH, regions="white.png;white.png"), plain) < SAME
    assert apart(drawn(webui, BOTH, regions="white.png;black.png"), one) < SAME
    halves = drawn(webui, BOTH, regions=MASKS)
    assert min(apart(halves, plain), apart(halves, one)) > DIFFERENT
    assert not changed(before, webui.facts())


def test_masks_go_into_windows_second_passes_and_travels(webui: Webui) -> None:
    windows = {**IN_WINDOWS, "noise": "independent"}
    assert apart(*(drawn(webui, BOTH, regions=MASKS, scale=0, **more) for more in ({}, windows))) < SAME
    first, last = (drawn(webui, BOTH, regions=given, scale=0) for given in (";black.png", ";"))
    growing = drawn(webui, BOTH, regions=";growing.apng", scale=0)
    assert max(apart(growing[0], first[0]), apart(growing[-1], last[-1])) < SAME
    travels = f"0: {BOTH}\n-1: {SQUARE} AND {CIRCLE}"
    assert apart(drawn(webui, travels, regions=MASKS, scale=0)[0], drawn(webui, BOTH, regions=MASKS, scale=0)[0]) < SAME
    request = {**HIRES, "hr_upscaler": "Latent (antialiased)", "hr_second_pass_steps": 2, "prompt": BOTH}
    assert webui.clip({"frames": FRAMES, "regions": MASKS}, **request).frames.shape[1:3] == (2 * SIDE, 2 * SIDE)


@pytest.mark.parametrize("others", REGIONS, indirect=True)
def test_other_regions_are_in_each_frame_what_they_are_in_a_picture(webui: Webui, still: str, others: str) -> None:
    scripts, prompt = REGIONS[others]
    request = {"prompt": prompt, "steps": 3, "sampler_name": "Euler", "batch_size": FRAMES}
    without, plain = (webui.txt2img(**request, alwayson_scripts=on).pictures[-FRAMES:] for on in ({}, scripts))
    assert apart(without, plain) > DIFFERENT
    assert apart(drawn(webui, prompt, scripts, **AS_A_BATCH, scale=0), plain) < SAME
    engines = ["attention"] if others == PROMPTER else ["attention", "denoiser"]
    for engine in engines:
        cut = {**AS_A_BATCH, **IN_WINDOWS, "noise": "independent", "scale": 0, "context_engine": engine}
        assert apart(drawn(webui, prompt, scripts, **cut), plain) < SAME


@pytest.mark.parametrize("others", [LATENT_COUPLE], indirect=True)
@pytest.mark.parametrize("windows", [{}, IN_WINDOWS], ids=["whole", "windows"])
def test_latent_couples_regions_move_as_ours_do(webui: Webui, others: str, windows: dict[str, int]) -> None:
    scripts, prompt = REGIONS[others]
    ours = drawn(webui, prompt, regions="fifth.png;left204.png;right204.png", **windows)
    assert apart(drawn(webui, prompt, scripts, **windows), ours) < SAME
    assert apart(drawn(webui, prompt, **windows), ours) > DIFFERENT


@pytest.mark.parametrize("others", [PROMPTER], indirect=True)
def test_what_would_mix_up_frames_is_refused(webui: Webui, still: str, others: str) -> None:
    for mode, fields, said in (
        ("Latent", {}, "set it to Attention"),
        ("Attention", {"frames": 2 * FRAMES, **IN_WINDOWS}, "Temporal attention"),
    ):
        scripts = {**moving(**{"frames": FRAMES, **fields})["alwayson_scripts"], **prompter(mode)}
        reply = webui.refusal({}, alwayson_scripts=scripts, prompt=REGIONS[PROMPTER][1])
        assert (reply.status, said in reply.sentence) == (422, True), reply.body
