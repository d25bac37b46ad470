"""ControlNet's units on clips, with random networks in small widths: sd-webui-controlnet's and the built-in ones."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from motion.demo.world import PIXELS
from motion.video.write import write

from .support.controls import ADAPTER, CONTROL, LLLITE, PROMPT, SEEING, SETTINGS
from .support.hosts import A1111, CONTROLNET, FORGE
from .support.models import CHECKPOINT, MODULE, STEPPED_CHECKPOINT, STEPPED_MODULE
from .support.webui import FRAMES, Frames, Webui, apart, changed, encoded, moving, needs_controlnet, reference
from .test_api import AS_A_BATCH

COUNT, LONGER = 6, 9
"""Frames of a clip in one window, and of one in windows of as many."""
WINDOWS = {"frames": LONGER, "context_length": COUNT, "context_overlap": 2}
REQUEST = {"prompt": "a cat", "seed": 7, "steps": 2, "cfg_scale": 5, "sampler_name": "Euler"}
COLOURS = np.stack([np.full((PIXELS, PIXELS, 3), colour, np.uint8) for colour in ((230, 20, 60), (10, 200, 120))])
HINTS = 255 * np.random.default_rng(0).integers(0, 2, (2, PIXELS, PIXELS, 3), dtype=np.uint8)


SMALL: dict[str, dict[str, Any]] = {
    A1111.name: {
        "scripts.controlnet_model_guess.controlnet_default_config": SETTINGS,
        "annotator.clipvision.configs": {"clip_h": SEEING},
    },
    FORGE.name: {"backend.patcher.clipvision.CLIP_VISION_VITL": SEEING},
}
"""What hosts are told of networks smaller than any that they know."""


@pytest.fixture(scope="module")
def network(webui: Webui) -> Iterator[str]:
    """The random network's name in the host."""
    kind = webui.server.host.kind
    told = dict(SMALL.get(kind.name, {}))
    if kind is A1111:
        if not os.environ.get(CONTROLNET):
            pytest.skip(f"set {CONTROLNET} to a checkout of sd-webui-controlnet to test with it")
        told["annotator.clipvision.models_path"] = str(webui.server.data)
    with ExitStack() as undo:
        for where, value in told.items():
            undo.enter_context(webui.put(where, value))
        yield named(webui, CONTROL)


def named(webui: Webui, network: str) -> str:
    """A network's name in the host."""
    return next(name for name in webui.get("/controlnet/model_list")["model_list"] if network in name)


def drawn(
    webui: Webui, network: str, images: dict[str, Any], request: Mapping[str, Any] = MappingProxyType({}), **fields: Any
) -> Frames:
    """The clip of a unit with these images; some hosts show those behind it."""
    is_extension = webui.server.host.kind is A1111
    module = "none" if is_extension else "None"
    unit = {"enabled": True, "module": module, "model": network, "weight": 1.0, "pixel_perfect": False, **images}
    unit["save_detected_map"] = False  # a Neo of January 2026 cannot answer with one under its own Pillow 12
    checkpoint, moving = (STEPPED_CHECKPOINT, STEPPED_MODULE) if is_extension else (CHECKPOINT, MODULE)
    fields = {"module": moving, "frames": COUNT, **fields}
    scripts = {"Motion": {"args": [fields]}, "ControlNet": {"args": [unit]}}
    asked = {**REQUEST, "override_settings": {"sd_model_checkpoint": checkpoint}, **request}
    return webui.txt2img(**asked, alwayson_scripts=scripts).pictures[1 : 1 + fields["frames"]]


def folder(webui: Webui, where: Path, hints: list[int], pictures: Frames = HINTS) -> dict[str, Any]:
    """A unit's batch input: a folder with a hint for each frame."""
    where.mkdir()
    for number, hint in enumerate(hints):
        Image.fromarray(pictures[hint]).save(where / f"{number:03}.png")
    key = "batch_images" if webui.server.host.kind is A1111 else "batch_image_dir"
    return {"input_mode": "batch", key: str(where)}


def test_a_folder_of_one_image_is_that_image(webui: Webui, network: str, tmp_path: Path) -> None:
    single = drawn(webui, network, {"image": encoded(HINTS[0])})
    assert apart(drawn(webui, network, folder(webui, tmp_path / "same", [0] * COUNT)), single) < 0.5
    assert apart(drawn(webui, network, {"enabled": False}), single) > 2


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("kind", [CONTROL, ADAPTER, LLLITE])
def test_each_frame_has_its_own_hint(webui: Webui, network: str, tmp_path: Path, kind: str, windows: bool) -> None:
    """Where the module is off frames do not see each other: what a hint changes is its own frame."""
    is_extension = webui.server.host.kind is A1111
    if kind == ADAPTER and not is_extension:
        pytest.skip("there is no T2I-Adapter for a UNet whose levels are of one width")
    fields: dict[str, Any] = {"scale": 0, "frames": COUNT, **(WINDOWS if windows else {})}
    frames = fields["frames"]
    if kind == LLLITE and not is_extension:
        fields["context_engine"] = "attention"
    network = named(webui, kind)
    hints = [int(number % 5 > 2) for number in range(frames)]
    same = drawn(webui, network, folder(webui, tmp_path / "same", [0] * frames), **fields)
    each = drawn(webui, network, folder(webui, tmp_path / "each", hints), **fields)
    far = [apart(one, other) for one, other in zip(same, each, strict=True)]
    changed = [difference for hint, difference in zip(hints, far, strict=True) if hint]
    others = [difference for hint, difference in zip(hints, far, strict=True) if not hint]
    assert max(others) < 0.01 < 0.04 < min(changed)  # a random network has little say


def test_frames_that_look_at_all_others_obey_each_others_hints(webui: Webui, network: str, tmp_path: Path) -> None:
    """ControlVideo; without it a hint changes its own frame alone."""
    same, each = (folder(webui, tmp_path / str(hint), [0] + [hint] * (COUNT - 1)) for hint in (0, 1))

    def reached(mode: str) -> float:
        return apart(*(drawn(webui, network, unit, scale=0, cross_frame=mode)[0] for unit in (same, each)))

    alone, before = reached("none"), webui.facts()
    assert reached("full") > alone == 0
    assert not changed(before, webui.facts())


def test_key_frames_alone_obey_their_pictures(webui: Webui, network: str, tmp_path: Path) -> None:
    """At all other frames the clip is what it is without the unit, also in windows."""
    fields = {**WINDOWS, "scale": 0}
    off = drawn(webui, network, {"enabled": False}, **fields)
    unit = folder(webui, tmp_path / "keys", [0, 1, 0])
    key = next(name for name in unit if name.startswith("batch_"))
    keyed = drawn(webui, network, {**unit, key: f"{unit[key]}\nkeyframe:0,5,-1\nstrength:1,0.5,1"}, **fields)
    far = [apart(one, other) for one, other in zip(off, keyed, strict=True)]
    keys = [far.pop(number) for number in (LONGER - 1, 5, 0)]
    assert max(far) == 0 < 0.01 < min(keys) and keys[1] < keys[0]


def test_units_without_an_image_are_shown_the_source(webui: Webui, network: str, tmp_path: Path) -> None:
    hints = [int(number % 5 > 2) for number in range(COUNT)]
    write(HINTS[hints], webui.server.data / "hints.apng", 8, "")
    fed = drawn(webui, network, {}, scale=0, source="hints.apng", source_latents=False, source_control=True)
    each = drawn(webui, network, folder(webui, tmp_path / "source", hints), scale=0)
    assert apart(fed, each) == 0
    alone = {"source": "hints.apng", "source_control": True}
    assert "no ControlNet unit" in webui.refusal(alone).sentence


@pytest.mark.parametrize("engine", ["denoiser", "attention"])
def test_an_image_prompt_goes_from_picture_to_picture(webui: Webui, network: str, tmp_path: Path, engine: str) -> None:
    """An IP-Adapter's: a frame with a picture is drawn after that picture alone, one between two after both."""
    if webui.server.host.kind.name not in SMALL:
        pytest.skip("this host takes no small encoder of images")
    module = "ip-adapter_clip_sd15" if webui.server.host.kind is A1111 else "CLIP-ViT-H (IPAdapter)"
    network = named(webui, PROMPT)
    fields = {"scale": 0, "noise": "independent", **WINDOWS, "context_engine": engine}

    def prompted(images: dict[str, Any]) -> Frames:
        return drawn(webui, network, {"module": module, **images}, **fields)

    first, last = (prompted({"image": encoded(colour)}) for colour in COLOURS)
    each = prompted(folder(webui, tmp_path / "each", [0] * 5 + [1] * (LONGER - 5), COLOURS))
    assert max(apart(each[:5], first[:5]), apart(each[5:], last[5:])) < 0.05
    unit = folder(webui, tmp_path / "keys", [0, 1], COLOURS)
    key = next(name for name in unit if name.startswith("batch_"))
    keyed = prompted({**unit, key: f"{unit[key]}\nkeyframe:0,-1"})
    from_first, from_last = ([apart(*pair) for pair in zip(keyed, one, strict=True)] for one in (first, last))
    assert max(from_first[0], from_last[-1]) < 0.05 < min(from_first[3:] + from_last[:-3])
    fading = prompted({**unit, key: f"{unit[key]}\nkeyframe:0,-1\nstrength:0: 1, -1: 0"})
    off = prompted({"enabled": False})
    assert max(apart(fading[0], first[0]), apart(fading[-1], off[-1])) < 0.05 < apart(fading[-2], off[-2])


def test_less_structure_is_left_of_the_source(webui: Webui, network: str) -> None:
    write(HINTS[[0] * COUNT], webui.server.data / "structure.apng", 8, "")
    asked = {"scale": 0, "source": "structure.apng", "source_latents": False, "source_control": True}
    plain, blurred = (drawn(webui, network, {}, **asked, structure_blur=blur) for blur in (0, 4))
    assert apart(plain, blurred) > 0.01


@needs_controlnet
def test_a_reference_changes_a_clip(webui: Webui, still: str, first_frame: Frames) -> None:
    """ControlNet puts its own map behind what was drawn."""
    plain, scripts = webui.clip().frames, reference(encoded(first_frame))
    referred = webui.txt2img(alwayson_scripts={**moving()["alwayson_scripts"], **scripts}).pictures
    assert len(referred) == 1 + FRAMES + 1
    assert apart(referred[1:-1], plain) > 0.5
    assert (webui.clip().frames == plain).all()


@needs_controlnet
@pytest.mark.parametrize("engine", ["denoiser", "attention"])
def test_a_reference_goes_into_windows(webui: Webui, first_frame: Frames, engine: str) -> None:
    """Each call of the UNet looks at it with noise of its own: where there is one, it is what it is without windows."""
    fields = {"noise": "independent", "context_length": FRAMES // 2, "context_overlap": 4, "context_engine": engine}
    still_clip = {**AS_A_BATCH, "scale": 0}

    def referred(scripts: dict[str, Any], **fields: Any) -> Frames:
        clip = moving(**{**still_clip, **fields})["alwayson_scripts"]
        return webui.txt2img(alwayson_scripts={**clip, **scripts}).pictures[1 : 1 + FRAMES]

    scripts = reference(encoded(first_frame))
    plain, whole = referred({}), referred(scripts)
    windows = [referred(scripts, **fields) for _ in range(2)]
    assert (windows[0] == windows[1]).all() and apart(windows[0], plain) > 0.5
    assert engine == "denoiser" or (windows[0] == whole).all()


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
