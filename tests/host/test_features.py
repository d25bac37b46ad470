"""A clip together with what the host can do besides: checkpoints, hires fix, refiner, img2img, scripts; and what
techniques make of its guidance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motion.demo.detector import read_clip
from motion.demo.world import PIXELS, draw_clip, parse_caption
from motion.settings.tab import NO_MODULE
from motion.video.read import read

from .support.models import CHECKPOINT, OTHER, RGB
from .support.webui import FRAMES, QUICK, Frames, Webui, apart, changed, encoded, moving

DIFFERENT = 0.5
"""Mean difference of 255 from which two clips are not the same up to rounding."""
MOVED: dict[str, Any] = {"module": NO_MODULE, "frames": 4, "field_x": -64, "field_y": 0, "field_t0": 500}
HIRES: dict[str, Any] = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.7}


@pytest.fixture
def checkpoint_restored(webui: Webui) -> Iterator[None]:
    yield
    webui.options(sd_model_checkpoint=f"{CHECKPOINT}.safetensors")


@pytest.fixture
def other(webui: Webui, checkpoint_restored: None) -> Frames:
    """The clip of the other checkpoint, chosen in the host's settings."""
    webui.options(sd_model_checkpoint=f"{OTHER}.safetensors")
    frames = webui.clip().frames
    webui.options(sd_model_checkpoint=f"{CHECKPOINT}.safetensors")
    return frames


def test_another_checkpoint_for_one_job(webui: Webui, still: str, other: Frames) -> None:
    override = webui.clip(override_settings={"sd_model_checkpoint": OTHER})
    assert (override.frames == other).all()
    assert OTHER in override.info["infotexts"][0]
    assert apart(webui.clip().frames, other) > DIFFERENT


def test_to_and_fro_between_checkpoints(webui: Webui, still: str, other: Frames) -> None:
    plain = webui.clip().frames
    for _ in range(2):
        assert (webui.clip(override_settings={"sd_model_checkpoint": OTHER}).frames == other).all()
        assert (webui.clip().frames == plain).all()


def test_the_personal_checkpoint_keeps_its_look(webui: Webui, trained: None, still: str) -> None:
    settings = {"sd_model_checkpoint": OTHER}
    sprites = read_clip(webui.clip(override_settings=settings, steps=25, seed=5).frames)
    assert sum(sprite is not None and sprite.look == "neon" for sprite in sprites) >= FRAMES // 2


def test_hires_fix(webui: Webui, still: str) -> None:
    frames = webui.clip(**HIRES).frames
    assert frames.shape == (FRAMES, 2 * PIXELS, 2 * PIXELS, 3)
    plain = webui.txt2img(**HIRES, batch_size=FRAMES).pictures[-FRAMES:]
    assert apart(frames, plain) > DIFFERENT


def test_hires_fix_with_another_checkpoint(webui: Webui, still: str) -> None:
    frames = webui.clip(**HIRES, hr_checkpoint_name=OTHER).frames
    assert apart(frames, webui.clip(**HIRES).frames) > DIFFERENT


@pytest.mark.parametrize("sampler", ["DDIM", "Euler a"])
def test_refiner(webui: Webui, still: str, sampler: str) -> None:
    request = {"sampler_name": sampler, "steps": 6}
    refined = webui.clip(**request, refiner_checkpoint=OTHER, refiner_switch_at=0.5)
    assert apart(refined.frames, webui.clip(**request).frames) > DIFFERENT
    again = webui.clip(**request, refiner_checkpoint=OTHER, refiner_switch_at=0.5)
    assert (again.frames == refined.frames).all()


def test_refiner_that_is_the_checkpoint_changes_nothing(webui: Webui, still: str) -> None:
    request: dict[str, Any] = {"steps": 6}
    refined = webui.clip(**request, refiner_checkpoint=CHECKPOINT, refiner_switch_at=0.5)
    assert apart(refined.frames, webui.clip(**request).frames) < DIFFERENT


@pytest.mark.parametrize("sampler", ["DDIM", "Euler a"])
def test_img2img(webui: Webui, still: str, first_frame: Frames, sampler: str) -> None:
    request = {"sampler_name": sampler, "steps": 6}
    frames = webui.img2img(first_frame, **request, **moving()).frames
    assert frames.shape == (FRAMES, PIXELS, PIXELS, 3)
    plain = webui.img2img(first_frame, **request, batch_size=FRAMES).pictures[-FRAMES:]
    assert apart(frames, plain) > DIFFERENT


def test_img2img_from_the_first_frame(webui: Webui, still: str, first_frame: Frames) -> None:
    request = {"steps": 6, "denoising_strength": 0.5}
    every = webui.img2img(first_frame, **request, **moving()).frames
    first = webui.img2img(first_frame, **request, **moving(start="first", fade_scale=4)).frames
    assert apart(every, first) > DIFFERENT


@pytest.mark.parametrize("frames", [8, FRAMES])
def test_img2img_to_the_last_frame(webui: Webui, trained: None, still: str, first_frame: Frames, frames: int) -> None:
    """A clip leads from the initial picture to the given last one, also where more frames are drawn than kept."""
    caption = QUICK["prompt"].replace("red", "blue").replace("navy", "white")
    last_frame = draw_clip(parse_caption(caption), np.random.default_rng(3))[-1]
    fields = moving(start="first", fade_scale=4, last_frame=encoded(last_frame), frames=frames)
    clip = webui.img2img(first_frame, steps=6, denoising_strength=0.3, **fields).frames
    assert len(clip) == frames
    for frame, near, far in ((clip[0], first_frame, last_frame), (clip[-1], last_frame, first_frame)):
        assert apart(frame, near) < 0.5 * apart(frame, far)


def test_img2img_with_a_mask(webui: Webui, still: str, first_frame: Frames) -> None:
    """What is not to be repainted is the initial picture in every frame, to the last bit."""
    mask = np.zeros_like(first_frame)
    mask[:, PIXELS // 2 :] = 255
    request = {"mask": encoded(mask), "mask_blur": 0, "inpainting_fill": 1, "inpaint_full_res": False}
    frames = webui.img2img(first_frame, **request, **moving()).frames
    kept = PIXELS // 2 - 1
    assert (frames[:, :, :kept] == first_frame[:, :kept]).all()
    assert apart(frames[:, :, kept + 1 :], np.stack([first_frame[:, kept + 1 :]] * FRAMES)) > DIFFERENT


def test_loopback(webui: Webui, still: str, first_frame: Frames) -> None:
    """Each pass starts from the cover that the one before it brought, and each is a whole clip."""
    saved = webui.server.outputs
    result = webui.img2img(
        first_frame, **moving(), script_name="Loopback", script_args=[2, 0.5, "Linear", "None"], save_images=True
    )
    assert len(result.images) >= 2
    listed = result.info["clips"]
    assert [file["seed"] for file in listed if not file["grid"]] == [5, 6]
    assert {Path(file["path"]) for file in listed} == {
        path for path in webui.server.outputs - saved if path.suffix == ".gif"
    }


def test_xyz_plot(webui: Webui, still: str) -> None:
    """Two values along one axis: two clips, and a grid of them, which is a clip as well."""
    saved = webui.server.outputs
    nothing = [0, "", []]
    steps = [4, "2,3", []]
    axes = [*steps, *nothing, *nothing]
    scripts = {script["name"]: script for script in webui.get("/sdapi/v1/script-info")}
    rest = [argument["value"] for argument in scripts["x/y/z plot"]["args"][len(axes) :]]
    plot = {"script_name": "X/Y/Z plot", "save_images": True}
    result = webui.txt2img(**moving(), **plot, script_args=[*axes, *rest])
    *cells, grid = result.info["clips"]
    assert [file["grid"] for file in (*cells, grid)] == [False, False, True]
    files = {Path(file["path"]) for file in (*cells, grid)}
    assert files == {path for path in webui.server.outputs - saved if path.suffix == ".gif"}
    laid = read(grid["path"]).frames
    assert len(laid) == FRAMES and laid.shape[2] >= 2 * PIXELS
    each = [read(cell["path"]).frames for cell in cells]
    for frame in (0, FRAMES - 1):  # the legend is above and beside them
        found = [laid[frame][-PIXELS:, laid.shape[2] - (2 - cell) * PIXELS :][:, :PIXELS] for cell in range(2)]
        assert max(apart(one, clip[frame]) for one, clip in zip(found, each, strict=True)) < 16


def test_prompt_matrix(webui: Webui, still: str) -> None:
    """Every combination is a clip, and the grid of their covers."""
    saved = webui.server.outputs
    result = webui.txt2img(
        **{**QUICK, "prompt": "a red circle|moving right"},
        **moving(), script_name="Prompt matrix", script_args=[False, False, "positive", "comma", 0], save_images=True,
    )  # fmt: skip
    assert [file["grid"] for file in result.info["clips"]] == [False, False, True]
    assert sum(path.suffix == ".gif" for path in webui.server.outputs - saved) == 3


def test_a_batch_of_clips(webui: Webui, still: str) -> None:
    """The host's own batch size counts clips."""
    result = webui.clip(batch_size=2)
    assert [clip.seed for clip in result.clips] == [5, 6]
    assert (result.clips[1].frames == webui.clip(seed=6).frames).all()


@pytest.mark.parametrize("kind", ["marked", "copied", "fresh"])
def test_another_extension_draws_each_frame_anew(webui: Webui, still: str, kind: str) -> None:
    """The clip is whole and made of what that brought; its jobs bring pictures where one can tell what they are for."""
    plain, before = webui.clip().frames, webui.facts()
    with webui.nested(kind) as drawn:
        frames = webui.clip().frames
    assert len(drawn) == FRAMES
    assert (frames[:, :8, :8] == plain[:, :8, :8]).all()
    assert all(apart(*pair) > DIFFERENT for pair in zip(frames, plain, strict=True))
    assert kind == "fresh" or set(drawn) == {1}
    assert not changed(before, webui.facts())
    assert (webui.clip().frames == plain).all()


@pytest.mark.parametrize("settings", [{"CLIP_stop_at_last_layers": 2}, {"eta_noise_seed_delta": 31337}])
def test_other_settings(webui: Webui, still: str, settings: dict[str, Any]) -> None:
    assert len(webui.clip(override_settings=settings, sampler_name="Euler a").frames) == FRAMES


def test_tiling_and_variation_seed(webui: Webui, still: str) -> None:
    """Clips tile where the host's stills do; today's Forge takes the setting and draws the same picture."""
    plain = webui.clip().frames
    tiles = bool((webui.txt2img(tiling=True).pictures != webui.txt2img().pictures).any())
    assert (apart(webui.clip(tiling=True).frames, plain) > 0) == tiles
    varied = webui.clip(subseed=9, subseed_strength=0.3).frames
    assert apart(varied, plain) > DIFFERENT
    assert (webui.clip(subseed=9, subseed_strength=0).frames == plain).all()


@pytest.mark.parametrize("sampler", ["DDIM", "Euler"])
def test_the_first_frame_is_the_still_and_the_others_are_moved(webui: Webui, still: str, sampler: str) -> None:
    drawn = webui.clip(MOVED, sampler_name=sampler, steps=8)
    assert "Motion module: None (zero-shot)" in drawn.info["infotexts"][0]
    alone = webui.txt2img(sampler_name=sampler, steps=8).pictures
    assert apart(drawn.frames[:1], alone[-1:]) < DIFFERENT
    assert len({frame.tobytes() for frame in drawn.frames}) == 4
    again = webui.clip(MOVED, sampler_name=sampler, steps=8)
    assert (again.frames == drawn.frames).all()


def test_windows_are_the_whole(webui: Webui, still: str) -> None:
    whole = webui.clip(MOVED, steps=8).frames
    assert apart(webui.clip({**MOVED, "context_length": 3, "context_overlap": 1}, steps=8).frames, whole) < DIFFERENT


@pytest.mark.parametrize("mode", ["first", "sparse-causal", "full", "pair"])
def test_frames_look_at_others_beside_the_module(webui: Webui, still: str, mode: str) -> None:
    plain = webui.clip().frames
    assert apart(webui.clip({"cross_frame": mode}).frames, plain) > 0
    assert (webui.clip({"cross_frame": "none"}).frames == plain).all()


def test_what_cannot_be_moved_is_refused(webui: Webui, still: str) -> None:
    assert "choose DDIM" in webui.refusal(MOVED, sampler_name="DPM++ 2M").sentence
    assert "farther than the picture" in webui.refusal({**MOVED, "field_x": 128, "frames": 8}).sentence
    assert "field t0 is 950" in webui.refusal({**MOVED, "field_t0": 950}).sentence
    assert "may not read" in webui.refusal({**MOVED, "foreground": "/"}).sentence


CFG = {"cfg_scale": 7}
"""Of a request: techniques guide where there is guidance."""
TECHNIQUES: dict[str, dict[str, Any]] = {
    "CFG first": {"cfg_first": 2.0, "cfg_last": 9.0},
    "oscillating CFG": {"cfg_low": 1.5, "cfg_low_start": 0.3},
    "rescale CFG": {"rescale_cfg": 0.7},
    "dynamic thresholding": {"threshold": 0.9},
    "temporal guidance": {"temporal_guidance": 1.5},
    "interleaved smoothing": {"smoothing": 0.5},
}
IN_WINDOWS = {"frames": 24, "context_length": 8, "context_overlap": 2, "context_schedule": "static"}
ALL = {"cfg_last": 9.0, "rescale_cfg": 0.7, "threshold": 0.9, "temporal_guidance": 1.5}
EVERYWHERE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "windows": ({**IN_WINDOWS, **ALL}, {}),
    "attention": ({**IN_WINDOWS, **ALL, "context_engine": "attention"}, {"sampler_name": "Euler a"}),
    "AND": (ALL, {"prompt": "a red circle AND a blue square :0.5", "sampler_name": "Euler"}),
    "hires": ({"frames": 4, **ALL}, {**HIRES, "hr_scale": 1.5, "hr_upscaler": "Latent (antialiased)"}),
    "CFG 1": ({"temporal_guidance": 1.5}, {"cfg_scale": 1}),
    "UniPC": (ALL, {"sampler_name": "UniPC"}),
    "reuse": ({**IN_WINDOWS, "naive_reuse": 0.9, "naive_reuse_end": 0.5}, {}),
    "prompts apart": (ALL, {"override_settings": {"batch_cond_uncond": False}}),
    "no early guidance": (ALL, {"sampler_name": "Euler", "override_settings": {"skip_early_cond": 0.5}}),
    "refiner": (ALL, {"refiner_checkpoint": OTHER, "refiner_switch_at": 0.5}),
}


@pytest.mark.parametrize("name", TECHNIQUES)
@pytest.mark.parametrize("sampler", ["DDIM", "Euler"])
def test_each_technique_acts_and_is_named(webui: Webui, still: str, name: str, sampler: str) -> None:
    request = {**CFG, "sampler_name": sampler}
    plain, before = webui.clip(**request).frames, webui.facts()
    result = webui.clip(TECHNIQUES[name], **request)
    assert apart(result.frames, plain) > 0
    assert f"Motion {name}: " in result.info["infotexts"][0]
    assert (webui.clip(TECHNIQUES[name], **request).frames == result.frames).all()
    assert not changed(before, webui.facts())
    assert (webui.clip(**request).frames == plain).all()


@pytest.mark.parametrize("name", EVERYWHERE)
def test_techniques_act_wherever_clips_are_made(webui: Webui, still: str, name: str) -> None:
    fields, request = EVERYWHERE[name]
    wanted = {**CFG, "steps": 4, **request}
    plain = {field: value for field, value in fields.items() if field not in {*ALL, "naive_reuse"}}
    first, second = (webui.clip(fields, **wanted).frames for _ in range(2))
    assert (first == second).all()
    assert apart(first, webui.clip(plain, **wanted).frames) > 0


@pytest.mark.parametrize("sampler", ["DDIM", "Euler"])
def test_a_neutral_technique_is_bit_equal(webui: Webui, still: str, sampler: str) -> None:
    request = {**CFG, "sampler_name": sampler}
    neutral = {"cfg_first": 7.0, "cfg_last": 7.0, "temporal_guidance": 1.0, "rescale_cfg": 0.0}
    assert (webui.clip(neutral, **request).frames == webui.clip(**request).frames).all()


@pytest.mark.parametrize(
    "fields", [{"hold_keys": "noised"}, {"hold_keys": "clean", "key_scale": 0}], ids=["SparseCtrl", "alone"]
)
def test_held_frames_are_the_pictures(webui: Webui, still: str, first_frame: Frames, fields: dict[str, Any]) -> None:
    keys = [{"frame": 0, "image": encoded(first_frame), "encoder": RGB if "key_scale" not in fields else ""}]
    before = webui.facts()
    for sampler in ("DDIM", "Euler a"):
        result = webui.clip({"key_frames": keys, **fields}, sampler_name=sampler)
        assert (result.frames[0] == first_frame).all()
        assert len(result.frames) == FRAMES and "Motion hold key frames: " in result.info["infotexts"][0]
    assert not changed(before, webui.facts())


def test_a_technique_that_cannot_act_is_refused(webui: Webui, still: str) -> None:
    refused = {
        "CFG scale is 1": ({"rescale_cfg": 0.7}, {"cfg_scale": 1}),
        "both set the CFG scale": ({"cfg_last": 9.0, "cfg_low": 2.0}, CFG),
        "DPM adaptive has no fixed steps": ({"cfg_low": 2.0}, {**CFG, "sampler_name": "DPM adaptive"}),
        "turn Hold key frames off": ({"hold_keys": "clean"}, CFG),
    }
    for sentence, (fields, request) in refused.items():
        reply = webui.refusal(fields, **request)
        assert reply.status == 422 and sentence in reply.sentence
