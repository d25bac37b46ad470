"""A clip that another one is made of, through the host's API."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motion.demo.world import draw_clip, parse_caption
from motion.fields.table import Size
from motion.hosts.controls import fit_image
from motion.video.read import read
from motion.video.write import write

from .support.models import MODULE
from .support.webui import FRAMES, QUICK, Frames, Webui, apart, encoded, moving

SIDE = 64
STRENGTHS = 0.1, 0.4, 0.9
EULER: dict[str, Any] = {"steps": 10, "sampler_name": "Euler", "cfg_scale": 1}


@pytest.fixture(scope="module")
def source(webui: Webui) -> Frames:
    """The frames of a clip in the host's data folder, longer than the usual one."""
    drawn = draw_clip(parse_caption(QUICK["prompt"]), np.random.default_rng(4), frames=FRAMES)
    frames = np.concatenate([drawn, drawn[:4]])
    write(frames, webui.server.data / "clips.apng", 12, "")
    return frames


def enlarged(frames: Frames, scale: int) -> Frames:
    """As the source is made larger."""
    return np.stack([fit_image(frame, Size(scale * SIDE, scale * SIDE), "crop") for frame in frames])


def of_source(**fields: Any) -> dict[str, Any]:
    return {"source": "clips.apng", "frames": FRAMES, **fields}


def test_the_less_is_drawn_anew_the_nearer_is_the_source(webui: Webui, trained: None, source: Frames) -> None:
    drawn = [webui.clip(of_source(source_strength=strength), **EULER).frames for strength in STRENGTHS]
    near, middle, far = (apart(frames, source[:FRAMES]) for frames in drawn)
    assert near < middle < far


def test_both_tabs_draw_the_same_and_leave_no_trace(webui: Webui, still: str, source: Frames) -> None:
    strength = STRENGTHS[1]
    result = webui.clip(of_source(source_strength=strength), **EULER)
    assert "Motion source: clips.apng" in result.info["infotexts"][0]
    assert "Motion source hash: " in result.info["infotexts"][0]
    black = np.zeros((SIDE, SIDE, 3), np.uint8)
    same = webui.img2img(black, **moving(**of_source()), denoising_strength=strength, **EULER)
    assert apart(same.frames, result.frames) < 0.5
    assert apart(webui.clip({"frames": FRAMES}, **EULER).frames, result.frames) > 2


def test_inverted_noise_brings_the_source_back(webui: Webui, still: str, source: Frames) -> None:
    """By its own words; in both tabs, and by both kinds of samplers."""
    before, words = source[:FRAMES], QUICK["prompt"]
    for sampler in ("Euler", "DDIM"):
        asked: dict[str, Any] = {**EULER, "sampler_name": sampler}
        fields = of_source(source_strength=0.6, noise="inverted", source_caption=words)
        reply = webui.txt2img(**moving(**fields), **asked)
        drawn = webui.clip({**fields, "noise": "auto"}, **asked).frames
        assert apart(reply.frames, before) < 0.8 * apart(drawn, before)
        assert "Motion noise: Inverted" in reply.info["infotexts"][0]
        black = np.zeros((SIDE, SIDE, 3), np.uint8)
        same = webui.img2img(black, **moving(**fields), denoising_strength=0.6, **asked)
        assert apart(same.frames, reply.frames) < 0.5
    for options, said in (({"sampler_name": "Euler a"}, "gone backwards"), ({}, "no clip to find it in")):
        fields = of_source(noise="inverted") if options else {"frames": FRAMES, "noise": "inverted"}
        refused = webui.refusal(fields, **options)
        assert (refused.status, said in refused.sentence) == (422, True), refused.body


def test_frames_and_rate_follow_the_source(webui: Webui, source: Frames) -> None:
    asked = {"module": MODULE, "source": "clips.apng", "source_every": 2}
    (clip,) = webui.txt2img(alwayson_scripts={"Motion": {"args": [asked]}}).clips
    assert len(clip.frames) == len(source) // 2 and clip.files[0]["fps"] == pytest.approx(6, rel=0.02)


def test_what_cannot_be_is_refused_before_a_step(webui: Webui, source: Frames, tmp_path: Path) -> None:
    write(source, tmp_path / "outside.apng", 8, "")
    for fields, said in (
        ({"source": "gone.mp4"}, "does not exist"),
        ({"source": str(tmp_path.parents[2] / "outside.apng")}, "may not read"),
        ({"source_range": "30-"}, "has no frame 30"),
        ({"frames": FRAMES + 5}, f"has {FRAMES + 4} frames"),
        ({"source_latents": False}, "feeds nothing"),
        ({"freeinit": 2, "noise": "inverted"}, "FreeInit is 2"),
    ):
        reply = webui.refusal(of_source(**fields))
        assert (reply.status, said in reply.sentence) == (422, True), reply.body


def test_a_masked_clip_is_the_source_outside(webui: Webui, still: str, source: Frames) -> None:
    """The mask moves to the right; a still image with one is a cinemagraph."""
    masks = np.zeros((len(source), SIDE, SIDE, 3), np.uint8)
    for number, mask in enumerate(masks):
        mask[:, 24 + number : 40 + number] = 255
    write(masks, webui.server.data / "masks.apng", 12, "")
    asked: dict[str, Any] = {"inpaint_full_res": False, "mask_blur": 2, "inpainting_fill": 1}
    fields = of_source(mask_clip="masks.apng")
    clip = webui.img2img(source[0], **moving(**fields), **asked).frames
    still_source = webui.img2img(source[0], **moving(frames=FRAMES, mask_clip="masks.apng"), **asked).frames
    for number, (moved, stayed) in enumerate(zip(clip, still_source, strict=True)):
        left, right = slice(0, 24 + number - 8), slice(40 + number + 8, None)
        for part in (left, right):
            assert (moved[:, part] == source[number][:, part]).all()
            assert (stayed[:, part] == source[0][:, part]).all()
        assert apart(moved, source[number]) > 0.1
    for options, said in (({"mask_clip": "masks.apng"}, "of a source clip"),):
        body = {**QUICK, "init_images": [encoded(source[0])], **moving(**options), **asked, "inpaint_full_res": True}
        reply = webui.reply("/sdapi/v1/img2img", body)
        assert (reply.status, said in reply.sentence) == (422, True), reply.body
    assert "of a source clip" in webui.refusal({"mask_clip": "masks.apng"}).sentence


def test_a_mask_holds_in_txt2img_too_and_with_hires_fix(webui: Webui, still: str, source: Frames) -> None:
    masks = np.zeros((SIDE, SIDE, 3), np.uint8)
    masks[:, 32:] = 255
    write(masks[None], webui.server.data / "half.png", 12, "")
    hires = {"enable_hr": True, "hr_scale": 2, "hr_second_pass_steps": 2, "denoising_strength": 0.5}
    for options in ({}, hires):
        clip = webui.clip(of_source(mask_clip="half.png", source_strength=0.9), **options).frames
        scale = clip.shape[1] // SIDE
        drawn, kept = slice(48 * scale, None), slice(0, 16 * scale)
        before = enlarged(source[:FRAMES], scale)
        assert apart(clip[:, :, drawn], before[:, :, drawn]) > 1
        assert (clip[:, :, kept] == before[:, :, kept]).all()


def test_a_clip_goes_on_round_by_round(webui: Webui, still: str, source: Frames, tmp_path: Path) -> None:
    """The file begins with the source, bit by bit, and is as long as was asked; a second batch is another clip."""
    have, given, to = len(source), 8, len(source) + 12
    fields = of_source(extend=given, extend_to=to, source_control=False)
    reply = webui.txt2img(**moving(formats=["apng"], **fields), n_iter=2)
    first, second = reply.clips
    for clip in (first, second):
        (file,) = clip.files
        (tmp_path / "whole.apng").write_bytes(b64decode(file["base64"]))
        whole = read(tmp_path / "whole.apng").frames
        assert len(whole) == file["frames"] == to
        assert (whole[:have] == source).all() and (whole[have:] == clip.frames).all()
    assert (first.frames != second.frames).any()
    assert f"Motion extend: {given}" in reply.info["infotexts"][0]
    for asked, said in (
        (of_source(extend=FRAMES), f"{FRAMES} are given"),
        (of_source(extend=8, loop="closed"), "has an end"),
        (of_source(extend=8, extend_to=have), f"to have {have}"),
        (of_source(extend=8, source_keys=4), "its own last frames alone"),
    ):
        refused = webui.refusal(asked)
        assert (refused.status, said in refused.sentence) == (422, True), refused.body


def test_only_what_is_masked_is_drawn_larger_and_put_back(webui: Webui, still: str, source: Frames) -> None:
    """The clip has the source's size and, outside of the mask, its pixels; the same still is drawn as before."""
    masks = np.zeros((len(source), SIDE, SIDE, 3), np.uint8)
    for number, mask in enumerate(masks):
        mask[20:32, 20 + number : 32 + number] = 255
    write(masks, webui.server.data / "small.apng", 12, "")
    asked: dict[str, Any] = {"inpaint_full_res": True, "inpaint_full_res_padding": 4, "mask_blur": 0, "width": 128}
    clip = webui.img2img(source[0], **moving(**of_source(mask_clip="small.apng")), **asked, inpainting_fill=1).frames
    assert clip.shape == source[:FRAMES].shape
    for frame, mask, before in zip(clip, masks, source, strict=False):
        inside = mask[..., 0] > 0
        assert (frame[~inside] == before[~inside]).all() and (frame[inside] != before[inside]).any()


def test_two_clips_are_connected(webui: Webui, still: str, source: Frames, tmp_path: Path) -> None:
    """The file has both, bit by bit, and the new frames between them."""
    other = np.ascontiguousarray(source[::-1, :, ::-1])
    write(other, webui.server.data / "other.apng", 12, "")
    reply = webui.txt2img(**moving(formats=["apng"], **of_source(extend=4, connect="other.apng")))
    (clip,) = reply.clips
    (tmp_path / "whole.apng").write_bytes(b64decode(clip.files[0]["base64"]))
    whole, have = read(tmp_path / "whole.apng").frames, len(source)
    assert len(whole) == 2 * have + FRAMES - 8 == clip.files[0]["frames"]
    assert (whole[:have] == source).all() and (whole[-have:] == other).all()
    assert (whole[have:-have] == clip.frames).all()
    assert "Motion connect to: other.apng" in reply.info["infotexts"][0]
    refused = webui.refusal(of_source(connect="other.apng"))
    assert (refused.status, "goes on" in refused.sentence) == (422, True), refused.body


def test_adetailer_finds_the_masks_of_a_detail_pass(webui: Webui, still: str, source: Frames) -> None:
    """By the script of the probe, which has ADetailer's layout."""
    asked: dict[str, Any] = {"inpaint_full_res": True, "inpaint_full_res_padding": 4, "mask_blur": 0, "width": 128}
    fields = of_source(mask_detector="shape_yolov8n.pt")
    clip = webui.img2img(source[0], **moving(**fields), **asked, inpainting_fill=1).frames
    changed = (clip != source[:FRAMES]).any(-1)
    for frame, found in zip(source, changed, strict=False):
        shape = np.abs(frame.astype(int) - frame[0, 0]).sum(-1) > 150
        rows, columns = np.nonzero(shape)
        inside = np.zeros_like(shape)
        inside[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
        assert found.any() and not found[~inside].any()
    body = {**QUICK, "init_images": [encoded(source[0])], **moving(**{**fields, "mask_detector": "hand.pt"}), **asked}
    reply = webui.reply("/sdapi/v1/img2img", body)
    assert (reply.status, "choose one of shape_yolov8n.pt" in reply.sentence) == (422, True), reply.body


def test_with_hires_fix_and_held_key_frames(webui: Webui, still: str, source: Frames) -> None:
    fields = of_source(source_latents=False, source_keys=5, hold_keys="noised", key_scale=0)
    held = webui.clip(fields).frames
    assert [int(number) for number in range(FRAMES) if (held[number] == source[number]).all()] == [0, 5, 10, 15]
    hires = {"enable_hr": True, "hr_scale": 2, "hr_second_pass_steps": 2, "denoising_strength": 0.5}
    assert webui.clip(of_source(source_strength=0.3), **hires).frames.shape == (FRAMES, 2 * SIDE, 2 * SIDE, 3)
