"""Techniques in the standalone host: what each makes of a clip, and that one which is neutral changes nothing."""

from __future__ import annotations

import wave
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from motion.errors import MotionError
from motion.fields.table import Size
from motion.hosts.controls import Control
from motion.hosts.effects import effect_of_further
from motion.hosts.source import Source
from motion.hosts.standalone import Standalone, sampling
from motion.hosts.standalone.guidance import NoiseLevel
from motion.hosts.standalone.networks.networks import Networks
from motion.hosts.standalone.samplers import scheduler
from motion.hosts.standalone.vae import encode
from motion.models.motion.architecture import STABLE_DIFFUSION
from motion.models.motion.model import MotionModel
from motion.settings.layers import FurtherModule
from motion.settings.settings import Clip
from motion.video.write import write
from tests.support.small import far

# diffusers 0.42 turns tensors into arrays in a way NumPy 2.4 frowns upon, whenever a scheduler holds sigmas.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")

SMALL = Clip(prompt="a red circle", negative="grey", frames=4, steps=2, seed=1, size=Size(64, 64), cfg=5)
WINDOWS = replace(SMALL, context_length=3, context_overlap=1)
ALL = {"temporal_guidance": 1.5, "rescale_cfg": 0.7, "cfg_last": 9.0, "threshold": 0.9}
IMAGE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def host(tiny: Path) -> Standalone:
    return Standalone.open(tiny / "sd15.safetensors", device="cpu")


@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_a_constant_ramp_is_bit_equal_to_the_cfg_scale(sampler: str, host: Standalone, v3: MotionModel) -> None:
    plain = replace(SMALL, sampler=sampler)
    ramp = replace(plain, cfg=8, cfg_first=5, cfg_last=5)
    assert np.array_equal(host.render(ramp, v3), host.render(plain, v3))
    assert not np.array_equal(host.render(replace(ramp, cfg_last=9), v3), host.render(plain, v3))


@pytest.mark.parametrize("sampler", ["ddim", "euler", "dpmpp_2m"])
def test_without_temporal_guidance_frames_are_those_of_no_module(
    sampler: str, host: Standalone, v3: MotionModel
) -> None:
    """Each step's prediction is told the sampler in its own units: there and back, whatever these are."""
    clip = replace(SMALL, sampler=sampler, cfg=1, betas="scaled_linear", noise="independent")
    still = host.render(replace(clip, temporal_guidance=0.0), v3).astype(int)
    assert np.abs(still - host.render(clip)).max() <= 1
    assert np.abs(still - host.render(clip, v3)).max() > 1


@pytest.mark.parametrize("engine", ["denoiser", "attention"])
def test_clips_in_one_batch_are_each_guided_by_themselves(engine: str, host: Standalone, v3: MotionModel) -> None:
    clip = replace(WINDOWS, context_engine=engine, **ALL)
    clips = [clip, replace(clip, prompt="a cat", seed=2)]
    for drawn, one in zip(host.render_all(clips, v3), clips, strict=True):
        assert np.abs(drawn.astype(int) - host.render(one, v3)).max() <= 1


@pytest.mark.parametrize(("engine", "cfg"), [("denoiser", 5.0), ("attention", 1.0)])
def test_the_pass_without_motion_goes_with_the_others_where_there_is_room(
    engine: str, cfg: float, host: Standalone, v3: MotionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one call of the UNet for each window, in place of one or two more; with the same clips."""
    clip = replace(WINDOWS, context_engine=engine, temporal_guidance=1.5, cfg=cfg, steps=1)
    clips = [clip, replace(clip, prompt="a cat", seed=2)]
    rows: list[int] = []
    hook = host.parts.unet.conv_in.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    together = host.render_all(clips, v3)
    calls, texts = len(rows), 1 + (cfg > 1)
    monkeypatch.setattr(sampling, "GUIDED_AT_ONCE", 1)
    apart = host.render_all(clips, v3)
    hook.remove()
    assert len(rows) == calls + calls * (1 + texts)
    assert set(rows[:calls]) == {(1 + texts) * number for number in rows[calls:]}
    assert np.abs(together.astype(int) - apart).max() <= 1


@pytest.mark.parametrize(("name", "value"), ALL.items())
def test_each_technique_changes_the_clip(name: str, value: float, host: Standalone, v3: MotionModel) -> None:
    assert not np.array_equal(host.render(replace(SMALL, **{name: value}), v3), host.render(SMALL, v3))


@pytest.mark.parametrize("hold", ["noised", "clean"])
def test_held_frames_are_the_pictures_and_their_latents_theirs(hold: str, host: Standalone, v3: MotionModel) -> None:
    clip = replace(WINDOWS, hold_keys=hold, key_scale=0.0, sampler="euler", steady_colours=1.0)
    keys = Control(None, {0: IMAGE, 3: 255 - IMAGE})
    frames = host.render(clip, Networks(v3, controls=[keys]))
    assert np.array_equal(frames[0], IMAGE) and np.array_equal(frames[3], 255 - IMAGE)
    plain = host.render(replace(clip, hold_keys="off", key_scale=1.0), v3)
    assert np.abs(frames[2].astype(int) - plain[2]).max() > 1
    latents = host._latents([clip], Networks(v3, controls=[keys]), None)[0]
    assert far(latents[0], encoded(host, IMAGE)[0]) <= 1e-5


@pytest.mark.parametrize("engine", ["denoiser", "attention"])
def test_clean_frames_are_seen_at_the_last_time_step(engine: str, host: Standalone, v3: MotionModel) -> None:
    times: list[list[float]] = []
    hook = host.parts.unet.time_proj.register_forward_pre_hook(lambda _, args: times.append(args[0].tolist()))
    clip = replace(WINDOWS, hold_keys="clean", key_scale=0.0, context_engine=engine)
    host.render(clip, Networks(v3, controls=[Control(None, {0: IMAGE})]))
    hook.remove()
    seen = [time for call in times for time in call]
    assert set(seen) == {1, 501}
    assert seen.count(1) == 2  # of the prompt and the negative one, in the window that has frame 0


@pytest.mark.parametrize("of_v", [False, True])
def test_predictions_are_read_back(of_v: bool) -> None:
    level = NoiseLevel(3.0, of_v)
    x, x0 = torch.randn(2, 4, 4, 8, 8, dtype=torch.float64)
    eps = (x - x0) / 3
    assert far(level.prediction(x, x0), (eps - 3 * x0) / 10**0.5 if of_v else eps) <= 1e-12
    assert far(level.clean(x, level.prediction(x, x0)), x0) <= 1e-12


@pytest.mark.parametrize("sampler", ["ddim", "euler", "dpmpp_2m"])
def test_the_noise_level_is_the_schedulers(sampler: str) -> None:
    made = scheduler(sampler, STABLE_DIFFUSION, 7)
    for place, t in enumerate(made.timesteps):
        alpha = made.alphas_cumprod[int(t)]
        wanted = float(made.sigmas[place]) if sampler == "euler" else float(((1 - alpha) / alpha).sqrt())
        assert abs(NoiseLevel.of(made, t).sigma / wanted - 1) <= 1e-5


def test_what_cannot_be_is_refused_before_anything_is_drawn(host: Standalone, v3: MotionModel) -> None:
    with pytest.raises(MotionError, match="CFG scale is 1"):
        host.render(replace(SMALL, cfg=1, rescale_cfg=0.7), v3)
    with pytest.raises(MotionError, match="Hold key frames"):
        host.render(replace(SMALL, hold_keys="clean"), v3)


@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_an_inverted_clip_comes_back(sampler: str, host: Standalone, v3: MotionModel) -> None:
    """Also with a motion module, and evaluated at the fixed point; what the random UNet says is made small enough for
    there to be one."""
    clip = replace(SMALL, sampler=sampler, steps=4, cfg=1, prompt="a cat", frames=2)
    hook = host.parts.unet.register_forward_hook(lambda unet, args, output: tuple(0.001 * part for part in output))
    errors = []
    try:
        for evaluations in (1, 3):
            noise = host.invert(clip, np.stack([IMAGE, 255 - IMAGE]), v3, evaluations)
            found = host._latents([clip], Networks(v3), None, noise=noise)[0]
            errors.append(far(found, encoded(host, IMAGE, 255 - IMAGE)))
    finally:
        hook.remove()
    assert errors[1] < errors[0] / 2 < 0.05


@pytest.mark.parametrize("strength", [0.5, 1])
def test_inverted_noise_is_the_sources(strength: float, host: Standalone, v3: MotionModel, tmp_path: Path) -> None:
    """Drawn by its caption it comes back, as far as it is gone back; other noise leads elsewhere."""
    clip = replace(SMALL, sampler="ddim", steps=4, cfg=1, prompt="a cat", frames=2, strength=strength)
    write(np.stack([IMAGE, 255 - IMAGE]), tmp_path / "source.apng", 8, "")
    source, wanted = Source(tmp_path / "source.apng"), encoded(host, IMAGE, 255 - IMAGE)
    hook = host.parts.unet.register_forward_hook(lambda unet, args, output: tuple(0.001 * part for part in output))
    try:
        found = [
            host._latents([asked], Networks(v3), None, source=source)[0]
            for asked in (replace(clip, noise="inverted", source_caption="a cat"), clip)
        ]
    finally:
        hook.remove()
    assert far(found[0], wanted) <= 0.05 < 0.3 <= far(found[1], wanted)
    with pytest.raises(MotionError, match="no clip to find it in"):
        host.render(replace(clip, noise="inverted"), v3)


def test_what_cannot_be_inverted_is_refused(host: Standalone) -> None:
    with pytest.raises(MotionError, match="sampler is LCM: only DDIM and Euler"):
        host.invert(replace(SMALL, sampler="lcm"), np.stack([IMAGE] * 4))
    with pytest.raises(MotionError, match="give 4 of 64x64"):
        host.invert(SMALL, IMAGE[None])


def encoded(host: Standalone, *images: Any) -> torch.Tensor:
    """The latents of pictures, as key frames and clips are given."""
    with torch.inference_mode():
        return encode(host.parts.vae, torch.from_numpy(np.stack(images)).movedim(-1, 1).float() / 255)


CURVES = {"scale": "0: 0, 3: 1.5", "attention_scale": "0: 0.5, 3: 2", "cfg_curve": "0: 5, 3: 9 * @0: 1, @1: 0.5"}


@pytest.mark.parametrize("engine", ["denoiser", "attention"])
def test_constant_curves_are_bit_equal_to_numbers(engine: str, host: Standalone, v3: MotionModel) -> None:
    plain = replace(WINDOWS, context_engine=engine, scale=0.8, attention_scale=0.7, cfg=6.0)
    curves = {"scale": "0: 0.8", "attention_scale": "0: 0.7, -1: 0.7", "cfg_curve": "@0: 6"}
    frames = host.render(plain, v3)
    assert np.array_equal(host.render(replace(plain, **{**curves, "cfg": 5.0}), v3), frames)  # type: ignore[arg-type]
    for name, curve in CURVES.items():
        assert not np.array_equal(host.render(replace(plain, **{name: curve}), v3), frames)  # type: ignore[arg-type]


def test_frames_without_effect_are_those_of_no_motion(host: Standalone, v3: MotionModel) -> None:
    """In one window; each frame's own noise then decides alone."""
    plain, found = (host.render(replace(SMALL, scale=scale), v3) for scale in (0.0, "0-1: 0, 2: 1, 3: 1"))
    assert np.array_equal(found[:2], plain[:2])
    assert all(not np.array_equal(*pair) for pair in zip(found[2:], plain[2:], strict=True))


def test_a_curve_follows_a_sound(host: Standalone, v3: MotionModel, tmp_path: Path) -> None:
    """Two silent frames, then two of a tone."""
    tone = np.sin(np.arange(44100 // 4) * 2 * np.pi * 100 / 44100) * 2**14
    with wave.open(str(tmp_path / "drum.wav"), "wb") as file:
        file.setparams((1, 2, 44100, 0, "NONE", ""))
        file.writeframes(np.concatenate([np.zeros(44100 // 4), tone]).astype("<i2").tobytes())
    by_sound = host.render(replace(SMALL, scale=f"audio({tmp_path / 'drum.wav'}, bass)"), v3)
    assert np.array_equal(by_sound[:2], host.render(replace(SMALL, scale=0.0), v3)[:2])
    assert np.array_equal(by_sound, host.render(replace(SMALL, scale="0-1: 0, 2-3: 1"), v3))
    high = host.render(replace(SMALL, scale=f"audio({tmp_path / 'drum.wav'}, treble, 0, 0.5)"), v3)
    assert not np.array_equal(high, by_sound)
    with pytest.raises(MotionError, match=r"none\.wav does not exist"):
        host.render(replace(SMALL, scale="audio(none.wav)"), v3)


def test_effects_by_block_and_place(host: Standalone, v3: MotionModel, tmp_path: Path) -> None:
    """Where nothing acts, frames are those of no motion; a module beside the first moves them more."""
    still, moving = host.render(replace(SMALL, scale=0), v3), host.render(SMALL, v3)
    for shade in (0, 255):
        Image.new("L", (8, 8), shade).save(tmp_path / f"{shade}.png")
    masked = replace(SMALL, effect_mask=str(tmp_path / "0.png"))
    assert np.array_equal(host.render(masked, v3), still)
    assert np.array_equal(host.render(replace(SMALL, effect_mask=str(tmp_path / "255.png")), v3), moving)
    assert np.array_equal(host.render(replace(SMALL, block_effects="down:0, up:0"), v3), still)
    none, twice = (
        Networks(v3, further=[(v3, effect_of_further(FurtherModule("", effect, mask=mask), SMALL.frames))])
        for effect, mask in ((1.0, masked.effect_mask), ("0: 0.5, -1: 1", ""))
    )
    assert np.array_equal(host.render(SMALL, none), moving)
    assert not np.array_equal(host.render(SMALL, twice), moving)
    with pytest.raises(MotionError, match=r"beside a first one"):
        host.render(SMALL, replace(twice, module=None))
