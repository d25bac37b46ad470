"""Clips through the host's API: what comes back, what is refused."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import motion
from motion import video
from motion.demo.detector import read_clip
from motion.settings.tab import TAB_FIELDS
from motion.weights.bundled import DEMO

from .support.models import MODULE, STRANGER
from .support.webui import FRAMES, QUICK, Frames, Webui, apart, changed, encoded, moving

SUITED = {"steps": int(DEMO["steps"]), "cfg_scale": float(DEMO["cfg"])}
"""What the bundled models need to draw what they are asked for."""
TABLE = 32
"""Positions in the bundled module's table."""
DENOISER = "modules.sd_samplers_cfg_denoiser.CFGDenoiser.forward"
AS_A_BATCH = {"seed_mode": "frame", "betas": "scaled_linear"}
"""Settings with which a clip differs from a plain batch by the motion module alone."""


def needs_pyav(webui: Webui) -> None:
    """Skip where this process or the host has no PyAV, which movies are written with."""
    pytest.importorskip("av", reason="movies are read with PyAV: pip install av")
    reply = webui.refusal({"formats": ["mp4"], "frames": 1})
    if reply.status != 200 and "PyAV" in reply.sentence:
        pytest.skip(f"the host says: {reply.sentence}")


@pytest.mark.parametrize("name", ["gif", "webp", "apng", "mp4", "webm"])
def test_the_file_is_the_clip(webui: Webui, name: str) -> None:
    if name in ("mp4", "webm"):
        needs_pyav(webui)
    (clip,) = webui.clip({"formats": [name], "fps": 10}, save_images=True).clips
    (file,) = clip.files
    assert (file["format"], file["frames"], file["fps"], file["seed"]) == (name, FRAMES, 10, QUICK["seed"])
    path = Path(file["path"])
    assert path.read_bytes() == base64.b64decode(file["base64"])
    assert path.is_relative_to(webui.server.data / "outputs")
    read = video.read(path)
    assert read.frames.shape == clip.frames.shape
    assert read.fps == pytest.approx(10)
    assert apart(read.frames, clip.frames) < (0.01 if name == "apng" else 16)
    assert read.parameters is not None
    assert all(text in read.parameters for text in (QUICK["prompt"], "Motion frames: 16", "Steps: 3", "Seed: 5"))


def test_what_cannot_be_written_leaves_frames_and_other_formats(webui: Webui) -> None:
    with webui.fault("motion.extension.files.write", "error"):
        result = webui.clip({"formats": ["gif", "webp"]}, save_images=True)
    (clip,) = result.clips
    assert [file["format"] for file in clip.files] == ["webp"] and len(clip.frames) == FRAMES
    assert ["the gif of seed 5 could not be written" in problem for problem in result.info["problems"]] == [True]


def test_without_pictures_the_answer_has_the_clip(webui: Webui) -> None:
    result = webui.clip(send_images=False)
    assert not result.body["images"]
    assert base64.b64decode(result.info["clips"][0]["base64"]).startswith(b"GIF8")


def test_several_formats_at_once(webui: Webui) -> None:
    (clip,) = webui.clip({"formats": ["gif", "webp"]}, save_images=True).clips
    assert [file["format"] for file in clip.files] == ["gif", "webp"]
    assert len({file["path"] for file in clip.files}) == 2


def test_nothing_is_kept_that_is_not_to_be_saved(webui: Webui, tmp_path: Path) -> None:
    """The host's API saves nothing unless asked: then the answer alone has the clip."""
    saved = webui.server.outputs
    (clip,) = webui.clip().clips
    assert webui.server.outputs == saved
    assert clip.files[0]["path"] is None
    file = tmp_path / "clip.gif"
    file.write_bytes(base64.b64decode(clip.files[0]["base64"]))
    assert len(video.read(file).frames) == FRAMES


def test_the_cover_is_the_first_frame(webui: Webui) -> None:
    (clip,) = webui.clip().clips
    assert (clip.cover == clip.frames[0]).all()


def test_the_same_request_gives_the_same_clip(webui: Webui) -> None:
    assert webui.clip().images == webui.clip().images


def test_two_clips_are_whole_and_have_their_seeds(webui: Webui) -> None:
    both = webui.clip(n_iter=2)
    assert [clip.seed for clip in both.clips] == [5, 6]
    assert [len(clip.frames) for clip in both.clips] == [FRAMES, FRAMES]
    for clip in both.clips:
        assert (clip.frames == webui.clip(seed=clip.seed).frames).all()


ONE_BY_ONE = ("ODE (Bosh3)", "ODE (Fehlberg2)", "ODE (Adaptive Heun)", "ODE (Dopri5)", "ODE Custom")
"""Samplers of reForge that solve each image for itself."""
OF_FLOW_MODELS = ("DPM++ 2S Ancestral Comfy RF",)
"""Samplers of reForge that make NaN of Stable Diffusion: log((1 - sigma) / sigma), and its sigma is above 1."""


def test_every_sampler_moves_the_frames(webui: Webui, subtests: pytest.Subtests) -> None:
    for sampler in webui.get("/sdapi/v1/samplers"):
        request = {"sampler_name": sampler["name"]}
        with subtests.test(**request):
            body = {**QUICK, **request, "batch_size": FRAMES}
            if webui.reply("/sdapi/v1/txt2img", body).status != 200:
                pytest.skip("the host itself cannot use it with so few steps")
            if sampler["name"] in ONE_BY_ONE:
                reply = webui.refusal({}, **request)
                assert (reply.status, "one by one" in reply.sentence) == (422, True)
                continue
            plain = webui.txt2img(**body).pictures[-FRAMES:]
            if sampler["name"] in OF_FLOW_MODELS:
                assert (plain == 0).all()
                pytest.skip("the host itself draws nothing with it")
            frames = webui.clip(AS_A_BATCH, **request).frames
            assert frames.shape == plain.shape
            assert np.isfinite(apart(frames, plain)) and apart(frames, plain) > 0.5
            assert (webui.clip({**AS_A_BATCH, "scale": 0}, **request).frames == plain).all()


def test_ping_pong_goes_there_and_back(webui: Webui) -> None:
    (clip,), (plain,) = webui.clip({"loop": "ping-pong"}).clips, webui.clip().clips
    assert clip.files[0]["frames"] == len(clip.frames) == 2 * FRAMES - 2
    assert (clip.frames[:FRAMES] == plain.frames).all()
    assert (clip.frames[FRAMES:] == plain.frames[-2:0:-1]).all()


def test_a_closed_loop_closes(webui: Webui, trained: None) -> None:
    """From the last frame to the first it is no longer the whole way back, and the picture is still the caption's."""
    closed, open_ = (webui.clip({"loop": loop}, seed=1, **SUITED).frames for loop in ("closed", "none"))
    assert apart(closed[-1], closed[0]) < 0.5 * apart(open_[-1], open_[0])
    sprites = read_clip(closed)
    assert sum(sprite is not None and (sprite.shape, sprite.colour) == ("circle", "red") for sprite in sprites) >= 14


@pytest.mark.parametrize("frames", [2, TABLE, TABLE + 1])
def test_few_and_many_frames(webui: Webui, still: str, frames: int) -> None:
    """More than the module has positions for are drawn in windows."""
    assert len(webui.clip({"frames": frames}).frames) == frames


def test_a_single_frame_is_a_clip_too(webui: Webui) -> None:
    assert len(webui.clip({"frames": 1}).frames) == 1


TASK = "task(refused)"
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown field": ({"frame": 16}, "frame"),
    "value out of range": ({"frames": 0}, "frames is 0"),
    "value of another type": ({"fps": "many"}, "fps is many"),
    "unknown choice": ({"loop": "sideways"}, "loop is sideways"),
    "no format": ({"formats": []}, "formats"),
    "unknown module": ({"module": "no-such-module"}, "no-such-module"),
    "no module": ({"module": ""}, "module"),
    "wrong kind of file": ({"module": STRANGER}, STRANGER),
}


@pytest.mark.parametrize(("fields", "named"), REFUSED.values(), ids=REFUSED)
def test_refusals(webui: Webui, still: str, fields: dict[str, Any], named: str) -> None:
    saved, before = webui.server.outputs, webui.facts()
    with webui.calls(DENOISER) as calls:
        reply = webui.refusal(fields, save_images=True, force_task_id=TASK)
    assert reply.status == 422, reply.body
    assert named in reply.sentence
    assert "Traceback" not in reply.sentence
    said = webui.get("/motion/v1/refusal", task=TASK)["sentence"]
    assert said and said in reply.sentence
    assert not webui.get("/motion/v1/refusal")["sentence"]
    assert not calls
    assert webui.server.outputs == saved
    assert not changed(before, webui.facts())


def test_img2img_takes_an_image_for_each_frame(webui: Webui, first_frame: Frames) -> None:
    """Where more frames are drawn for the module, and where the host would complain of another number first."""
    images = [first_frame, first_frame[::-1], first_frame[:, ::-1], first_frame // 2]
    clip = webui.img2img(*images, **moving(frames=4))
    assert len(clip.frames) == 4 and clip.info["extra_generation_params"]["Seed"] == QUICK["seed"]
    few = {"init_images": list(map(encoded, images[:3])), "denoising_strength": 0.7}
    reply = webui.reply("/sdapi/v1/img2img", {**QUICK, **few, **moving(frames=4)})
    assert (reply.status, "3 initial images for 4 frames" in reply.sentence) == (422, True)


@pytest.mark.parametrize("args", [[], [{"enabled": False}], [{"enabled": False, "frames": 4}]])
def test_without_it_a_still_is_a_still(webui: Webui, args: list[Any]) -> None:
    plain = webui.txt2img()
    off = webui.txt2img(alwayson_scripts={"Motion": {"args": args}})
    assert off.images == plain.images
    assert not off.info.get("clips")


def test_the_routes(webui: Webui) -> None:
    assert motion.__version__ in str(webui.get("/motion/v1/version"))
    listed = str(webui.get("/motion/v1/models"))
    assert MODULE in listed
    schema = str(webui.get("/motion/v1/schema"))
    assert all(name in schema for name in TAB_FIELDS)


def test_the_host_lists_the_script(webui: Webui) -> None:
    scripts = webui.get("/sdapi/v1/scripts")
    assert all("motion" in map(str.lower, scripts[tab]) for tab in ("txt2img", "img2img"))


def test_a_random_seed_is_said(webui: Webui) -> None:
    (clip,) = webui.clip(seed=-1).clips
    assert clip.seed >= 0
    assert (webui.clip(seed=clip.seed).frames == clip.frames).all()


def test_frames_are_saved_if_asked(webui: Webui) -> None:
    saved = webui.server.outputs
    webui.txt2img(**moving(formats=["gif", "frames"]), save_images=True)
    suffixes = sorted(path.suffix for path in webui.server.outputs - saved)
    assert suffixes == [".gif", *[".png"] * FRAMES]
