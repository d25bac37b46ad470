"""ControlNet's units on clips, with a random network of full size: sd-webui-controlnet's and the built-in ones."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from motion.demo.world import PIXELS
from motion.video.write import write

from .support.hosts import A1111, CONTROLNET
from .support.models import FULL_CHECKPOINT, FULL_MODULE
from .support.networks import CONTROL
from .support.webui import FRAMES, Frames, Webui, apart, changed, encoded, moving, needs_controlnet, reference
from .test_api import AS_A_BATCH

LONGER = FRAMES + 4
REQUEST: dict[str, Any] = {
    **{"prompt": "a cat", "seed": 7, "steps": 2, "cfg_scale": 5, "sampler_name": "Euler"},
    "override_settings": {"sd_model_checkpoint": FULL_CHECKPOINT},
}
HINTS = 255 * np.random.default_rng(0).integers(0, 2, (2, PIXELS, PIXELS, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def network(webui: Webui) -> str:
    """The random network's name in the host."""
    if webui.server.host.kind is A1111 and not os.environ.get(CONTROLNET):
        pytest.skip(f"set {CONTROLNET} to a checkout of sd-webui-controlnet to test with it")
    return next(name for name in webui.get("/controlnet/model_list")["model_list"] if CONTROL in name)


def drawn(
    webui: Webui, network: str, images: dict[str, Any], request: Mapping[str, Any] = MappingProxyType({}), **fields: Any
) -> Frames:
    """The clip of a unit with these images; some hosts show those behind it."""
    module = "none" if webui.server.host.kind is A1111 else "None"
    unit = {"enabled": True, "module": module, "model": network, "weight": 1.0, "pixel_perfect": False, **images}
    unit["save_detected_map"] = False  # a Neo of January 2026 cannot answer with one under its own Pillow 12
    fields = {"module": FULL_MODULE, "frames": FRAMES, **fields}
    scripts = {"Motion": {"args": [fields]}, "ControlNet": {"args": [unit]}}
    return webui.txt2img(**{**REQUEST, **request}, alwayson_scripts=scripts).pictures[1 : 1 + fields["frames"]]


def folder(webui: Webui, where: Path, hints: list[int]) -> dict[str, Any]:
    """A unit's batch input: a folder with a hint for each frame."""
    where.mkdir()
    for number, hint in enumerate(hints):
        Image.fromarray(HINTS[hint]).save(where / f"{number:03}.png")
    key = "batch_images" if webui.server.host.kind is A1111 else "batch_image_dir"
    return {"input_mode": "batch", key: str(where)}


def test_a_folder_of_one_image_is_that_image(webui: Webui, network: str, tmp_path: Path) -> None:
    single = drawn(webui, network, {"image": encoded(HINTS[0])})
    assert apart(drawn(webui, network, folder(webui, tmp_path / "same", [0] * FRAMES)), single) < 0.5
    assert apart(drawn(webui, network, {"enabled": False}), single) > 2


@pytest.mark.parametrize("windows", [False, True])
def test_each_frame_has_its_own_hint(webui: Webui, network: str, tmp_path: Path, windows: bool) -> None:
    """Where the module is off frames do not see each other: what a hint changes is its own frame."""
    frames = LONGER if windows else FRAMES
    fields = {"frames": frames, "scale": 0, "context_length": FRAMES, "context_overlap": 4}
    hints = [int(number % 5 > 2) for number in range(frames)]
    same = drawn(webui, network, folder(webui, tmp_path / "same", [0] * frames), **fields)
    each = drawn(webui, network, folder(webui, tmp_path / "each", hints), **fields)
    far = [apart(one, other) for one, other in zip(same, each, strict=True)]
    changed = [difference for hint, difference in zip(hints, far, strict=True) if hint]
    others = [difference for hint, difference in zip(hints, far, strict=True) if not hint]
    assert max(others) < 0.01 < 0.04 < min(changed)  # a random network has little say


def test_frames_that_look_at_all_others_obey_each_others_hints(webui: Webui, network: str, tmp_path: Path) -> None:
    """ControlVideo; without it a hint changes its own frame alone."""
    same, each = (folder(webui, tmp_path / str(hint), [0] + [hint] * (FRAMES - 1)) for hint in (0, 1))

    def reached(mode: str) -> float:
        return apart(*(drawn(webui, network, unit, scale=0, cross_frame=mode)[0] for unit in (same, each)))

    alone, before = reached("none"), webui.facts()
    assert reached("full") > alone == 0
    assert not changed(before, webui.facts())


def test_key_frames_alone_obey_their_pictures(webui: Webui, network: str, tmp_path: Path) -> None:
    """At all other frames the clip is what it is without the unit, also in windows."""
    fields = {"frames": LONGER, "scale": 0, "context_length": FRAMES, "context_overlap": 4}
    off = drawn(webui, network, {"enabled": False}, **fields)
    unit = folder(webui, tmp_path / "keys", [0, 1, 0])
    key = next(name for name in unit if name.startswith("batch_"))
    keyed = drawn(webui, network, {**unit, key: f"{unit[key]}\nkeyframe:0,5,-1\nstrength:1,0.5,1"}, **fields)
    far = [apart(one, other) for one, other in zip(off, keyed, strict=True)]
    keys = [far.pop(number) for number in (LONGER - 1, 5, 0)]
    assert max(far) == 0 < 0.01 < min(keys) and keys[1] < keys[0]


def test_units_without_an_image_are_shown_the_source(webui: Webui, network: str, tmp_path: Path) -> None:
    hints = [int(number % 5 > 2) for number in range(FRAMES)]
    write(HINTS[hints], webui.server.data / "hints.apng", 8, "")
    fed = drawn(webui, network, {}, scale=0, source="hints.apng", source_latents=False, source_control=True)
    each = drawn(webui, network, folder(webui, tmp_path / "source", hints), scale=0)
    assert apart(fed, each) == 0
    alone = {"source": "hints.apng", "source_control": True}
    assert "no ControlNet unit" in webui.refusal(alone).sentence


@needs_controlnet
def test_a_reference_changes_a_clip(webui: Webui, still: str, first_frame: Frames) -> None:
    """ControlNet puts its own map behind what was drawn."""
    plain, scripts = webui.clip().frames, reference(encoded(first_frame))
    referred = webui.txt2img(alwayson_scripts={**moving()["alwayson_scripts"], **scripts}).pictures
    assert len(referred) == 1 + FRAMES + 1
    assert apart(referred[1:-1], plain) > 0.5
    assert (webui.clip().frames == plain).all()


@needs_controlnet
def test_a_reference_does_to_each_frame_what_it_does_to_a_picture(webui: Webui, first_frame: Frames) -> None:
    scripts = reference(encoded(first_frame))
    still_clip = moving(**{**AS_A_BATCH, "scale": 0})["alwayson_scripts"]
    plain = webui.txt2img(alwayson_scripts=scripts, batch_size=FRAMES).pictures[-FRAMES - 1 : -1]
    clip = webui.txt2img(alwayson_scripts={**still_clip, **scripts}).pictures[1:-1]
    assert (clip == plain).all()


@pytest.mark.parametrize("windows", [False, True], ids=["one window", "windows"])
def test_the_step_cache_is_followed(webui: Webui, network: str, windows: bool) -> None:
    """The network stands aside with the UNet: another clip than all layers draw, the same each time, and no trace."""
    fields = {"frames": 6, "context_length": 4, "context_overlap": 2} if windows else {"frames": 4}
    unit, request = {"image": encoded(HINTS[0])}, {"steps": 4}
    off, before = drawn(webui, network, unit, request, **fields), webui.facts()
    with webui.calls("motion.sampling.step_cache.attach_control") as networks:
        cached = drawn(webui, network, unit, request, **fields, cache="fast")
    assert len(networks) == 1 and apart(cached, off) > 0
    assert not changed(before, webui.facts())
    assert (drawn(webui, network, unit, request, **fields, cache="fast") == cached).all()
