"""Drawing: the same frames as diffusers' own pipelines, the same seed the same frames, and the scope ends clean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from torch import nn

import motion
from motion.errors import MotionError
from motion.fields.table import Size
from motion.hosts.standalone import Standalone, vae
from motion.hosts.standalone.samplers import scheduler
from motion.hosts.standalone.text.emphasis import literal
from motion.hosts.standalone.text.prompts import encode
from motion.hosts.standalone.text.tokens import chunks, clip_tokenizer
from motion.models.motion.architecture import FAMILIES
from motion.models.motion.model import MotionModel
from motion.settings.choices import SAMPLERS
from motion.settings.settings import Clip
from tests.support.small import far

# diffusers 0.42 turns tensors into arrays in a way NumPy 2.4 frowns upon, whenever a scheduler holds sigmas.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")

CLIP = Clip(prompt="a red circle", negative="grey", frames=3, steps=3, seed=1, size=Size(64, 64))
BETAS = FAMILIES["v3"].betas


@pytest.fixture(scope="module")
def sd15(tiny: Path) -> Standalone:
    return Standalone.open(tiny / "sd15.safetensors", device="cpu")


@pytest.fixture(scope="module")
def sdxl(tiny: Path) -> Standalone:
    return Standalone.open(tiny / "sdxl.safetensors", device="cpu")


@pytest.mark.parametrize("negative", [CLIP.negative, ""])
@pytest.mark.parametrize("base", ["sd15", "sdxl"])
def test_stills_are_diffusers_own(
    base: str, negative: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text, guidance, schedule, added conditions and decoding: one number at every point would show."""
    host: Standalone = request.getfixturevalue(base)
    monkeypatch.setattr("motion.hosts.standalone.samplers.STABLE_DIFFUSION", BETAS)
    ours = host.render(replace(CLIP, sampler="euler", negative=negative))
    noise = torch.randn((3, 4, 8, 8), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        encoded = encode(host.parts.encoders, [negative, CLIP.prompt])
        if encoded.pooled is not None and not negative:  # the pipeline's own for a negative prompt that is not given
            for part in (encoded.context, encoded.pooled):
                part[0] = 0
        reference = reference_frames(host, encoded, noise)
    assert np.abs(ours.astype(int) - reference.astype(int)).max() <= 1


def reference_frames(host: Standalone, encoded: Any, noise: torch.Tensor) -> np.ndarray:
    classes = {"sd15": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline}
    models: dict[str, Any] = {"vae": host.parts.vae, "unet": host.parts.unet, "tokenizer": None}
    models |= {"text_encoder": host.parts.encoders[0].model, "scheduler": scheduler("euler", BETAS, 3)}
    rest: dict[str, Any] = {"feature_extractor": None}
    if host.parts.base == "sd15":
        rest |= {"safety_checker": None, "requires_safety_checker": False}
    else:
        rest |= {"text_encoder_2": host.parts.encoders[1].model, "tokenizer_2": None, "add_watermarker": False}
    pipe = classes[host.parts.base](**models, **rest)
    pipe.set_progress_bar_config(disable=True)
    negative, prompt = (rows.repeat(3, 1, 1) for rows in encoded.context.chunk(2))
    arguments: dict[str, Any] = {"prompt_embeds": prompt, "negative_prompt_embeds": negative}
    if encoded.pooled is not None:
        negative_pooled, pooled = (rows.repeat(3, 1) for rows in encoded.pooled.chunk(2))
        arguments |= {"pooled_prompt_embeds": pooled, "negative_pooled_prompt_embeds": negative_pooled}
    result = pipe(
        **arguments, height=64, width=64, num_inference_steps=3, guidance_scale=8.0, latents=noise, output_type="np"
    )
    return (result.images * 255).round().astype(np.uint8)


def test_text_is_encoded_as_by_transformers(sd15: Standalone, sdxl: Standalone) -> None:
    tokens = [chunks(clip_tokenizer(), [literal("a red circle")], 49407)[0][0].ids]
    (first,) = sd15.parts.encoders
    with torch.no_grad():
        whole = first.model(torch.tensor(tokens), output_hidden_states=True)
        assert torch.equal(encode((first,), ["a red circle"]).context, whole.last_hidden_state)
        skipped = encode((first,), ["a red circle"], clip_skip=2).context
        norm = getattr(first.model, "text_model", first.model).final_layer_norm
        assert torch.equal(skipped, norm(whole.hidden_states[-2]))
        both = encode(sdxl.parts.encoders, ["a red circle"])
        second = sdxl.parts.encoders[1].model
        zero_padded = [chunks(clip_tokenizer(), [literal("a red circle")], 0)[0][0].ids]
        output = second(torch.tensor(zero_padded), output_hidden_states=True)
    assert torch.equal(both.context[..., 32:], output.hidden_states[-2])
    assert torch.equal(both.pooled, output.text_embeds)
    with pytest.raises(MotionError, match=r"clip skip is 9: .* 3 layers"):
        encode((first,), [""], clip_skip=9)


def test_long_prompts_stand_in_chunks_of_75_tokens() -> None:
    tokenizer = clip_tokenizer()
    rows = [[row.ids for row in rows] for rows in chunks(tokenizer, [literal("cat " * 76), literal("cat")], pad=0)]
    assert [[len(row) for row in chunk] for chunk in rows] == [[77, 77], [77, 77]]
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    (cat,) = tokenizer("cat", add_special_tokens=False).input_ids
    assert rows[0] == [[start, *[cat] * 75, end], [start, cat, end, *[0] * 74]]
    assert rows[1] == [[start, cat, end, *[0] * 74], [start, end, *[0] * 75]]
    photo = tokenizer("a photo of a cat", add_special_tokens=False).input_ids
    assert photo == [320, 1125, 539, 320, 2368]  # OpenAI's own numbers


def test_a_word_beyond_75_tokens_counts(sd15: Standalone) -> None:
    long = replace(CLIP, prompt="red " * 75)
    assert not np.array_equal(sd15.render(long), sd15.render(replace(long, prompt=long.prompt + "circle")))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_draws_and_repeats_itself(sampler: str, sd15: Standalone, v3: MotionModel) -> None:
    clip = replace(CLIP, sampler=sampler)
    frames = sd15.render(clip, v3)
    assert (frames.shape, frames.dtype) == ((3, 64, 64, 3), np.uint8)
    assert frames.std() > 1
    assert np.array_equal(frames, sd15.render(clip, v3))
    assert not np.array_equal(frames, sd15.render(replace(clip, seed=2), v3))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_clips_drawn_together_are_those_drawn_alone(sampler: str, sd15: Standalone, v3: MotionModel) -> None:
    """Groups do not mix, and each clip keeps its own noise, the samplers' too."""
    clips = [replace(CLIP, sampler=sampler), replace(CLIP, sampler=sampler, prompt="a blue square", seed=2)]
    together = sd15.render_all(clips, v3)
    for drawn, clip in zip(together, clips, strict=True):
        assert np.abs(drawn.astype(int) - sd15.render(clip, v3).astype(int)).max() <= 1


def test_guidance_of_one_is_the_prompt_alone(sd15: Standalone, v3: MotionModel) -> None:
    rows: list[int] = []
    hook = sd15.parts.unet.register_forward_pre_hook(lambda _, args: rows.append(args[0].shape[0]))
    plain = sd15.render(replace(CLIP, cfg=1.0), v3)
    hook.remove()
    assert set(rows) == {16}
    assert np.array_equal(plain, sd15.render(replace(CLIP, cfg=1.0, negative="anything"), v3))


def test_motion_moves_and_its_scale_takes_it_away(sd15: Standalone, v3: MotionModel, monkeypatch: Any) -> None:
    monkeypatch.setattr("motion.hosts.standalone.samplers.STABLE_DIFFUSION", BETAS)
    full = replace(CLIP, frames=16)
    still = sd15.render(full)
    assert not np.array_equal(sd15.render(full, v3), still)
    assert np.array_equal(sd15.render(replace(full, scale=0.0), v3), still)


def test_a_short_clip_is_a_full_one_cut(sd15: Standalone, v3: MotionModel) -> None:
    cut, full = sd15.render(CLIP, v3), sd15.render(replace(CLIP, frames=16), v3)[:3]
    assert np.abs(cut.astype(int) - full).max() <= 1  # decoded in batches of other sizes


def test_seeds_by_frame_are_those_of_single_pictures(sd15: Standalone) -> None:
    frames = sd15.render(replace(CLIP, seed_mode="frame"))
    alone = [sd15.render(replace(CLIP, frames=1, seed=CLIP.seed + frame))[0] for frame in range(CLIP.frames)]
    assert np.abs(frames.astype(int) - np.stack(alone)).max() <= 1
    assert not np.array_equal(frames[1], sd15.render(CLIP)[1])


def test_a_frame_has_the_seed_that_is_listed_for_it(sd15: Standalone) -> None:
    listed = sd15.render(replace(CLIP, seeds=(CLIP.seed + 1, CLIP.seed + 4)))
    alone = [sd15.render(replace(CLIP, frames=1, seed=CLIP.seed + more))[0] for more in (1, 4, 5)]
    assert np.abs(listed.astype(int) - np.stack(alone)).max() <= 1


@pytest.mark.parametrize("change", [{"loop": "closed"}, {"betas": "scaled_linear"}])
def test_a_loop_and_a_schedule_reach_the_frames(change: dict[str, Any], sd15: Standalone, v3: MotionModel) -> None:
    assert not np.array_equal(sd15.render(replace(CLIP, **change), v3), sd15.render(CLIP, v3))


def test_sdxl_draws_with_its_module(sdxl: Standalone, tiny: Path) -> None:
    frames = sdxl.render(CLIP, motion.load(tiny / "adxl.safetensors"))
    assert frames.std() > 1


@pytest.mark.parametrize("size", [(64, 72), (200, 88)])
def test_sizes_are_any_multiple_of_eight(size: tuple[int, int], sd15: Standalone, v3: MotionModel) -> None:
    frames = sd15.render(replace(CLIP, size=Size(*size), steps=1), v3)
    assert frames.shape == (3, size[1], size[0], 3)


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_half_precision_is_the_same_clip(dtype: str, sd15: Standalone, v3: MotionModel, tiny: Path) -> None:
    half = Standalone.open(tiny / "sd15.safetensors", device="cpu", dtype=dtype)
    assert half.parts.unet.dtype == half.dtype
    difference = half.render(CLIP, v3).astype(float) - sd15.render(CLIP, v3)
    assert np.abs(difference).mean() < 4


def test_progress_counts_every_step(sd15: Standalone) -> None:
    calls: list[tuple[int, int]] = []
    sd15.render(replace(CLIP, sampler="euler"), progress=lambda done, steps: calls.append((done, steps)))
    assert calls == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_the_model_is_left_as_found_also_when_interrupted(sd15: Standalone, v3: MotionModel) -> None:
    def interrupt(done: int, steps: int) -> None:
        if done:
            raise KeyboardInterrupt

    before = sd15.render(CLIP)
    with pytest.raises(KeyboardInterrupt):
        sd15.render(CLIP, v3, interrupt)
    assert np.array_equal(sd15.render(CLIP), before)


def test_what_does_not_fit_is_refused_before_the_first_step(sd15: Standalone, v3: MotionModel, tiny: Path) -> None:
    def never(done: int, steps: int) -> None:
        pytest.fail("sampling began")

    with pytest.raises(MotionError, match=r"33 frames .* 1 to 32"):
        sd15.render(replace(CLIP, frames=64, context_length=33), v3, never)
    with pytest.raises(MotionError, match="made for sdxl and the checkpoint is sd15"):
        sd15.render(CLIP, motion.load(tiny / "adxl.safetensors"), never)
    with pytest.raises(MotionError, match="frames differs"):
        sd15.render_all([CLIP, replace(CLIP, frames=2)], v3, never)
    with pytest.raises(MotionError, match="the LoRA ink"):
        sd15.render(replace(CLIP, prompt="a <lora:ink:1> cat"), v3, never)


@pytest.mark.parametrize(
    ("broken", "dtype", "sentence"),
    [
        (torch.nan, "fp32", "the checkpoint, or a LoRA in it, holds weights that are no numbers"),
        (1e36, "fp32", "though the weights are numbers: lower CFG scale"),
        (6e4, "fp16", r"in float16: draw in fp32 or bf16"),
        (1e36, "bf16", r"in bfloat16: draw in fp32 \("),
    ],
)
def test_frames_that_are_no_numbers_are_refused(broken: float, dtype: str, sentence: str, tiny: Path) -> None:
    host = Standalone.open(tiny / "sd15.safetensors", device="cpu", dtype=dtype)
    with torch.no_grad():
        host.parts.unet.conv_out.bias.fill_(broken)
        host.parts.unet.conv_out.weight.fill_(broken)
    with pytest.raises(MotionError, match=sentence) as raised:
        host.render(replace(CLIP, cfg=100))
    assert dtype != "fp32" or "fp32" not in str(raised.value)


def test_a_motion_module_of_no_numbers_is_named(sd15: Standalone, tiny: Path) -> None:
    module = motion.load(tiny / "v3.safetensors")
    with torch.no_grad():
        next(iter(module.parameters())).fill_(torch.nan)
    with pytest.raises(MotionError, match="the motion module holds weights that are no numbers"):
        sd15.render(CLIP, module)


def test_a_vae_that_overflows_in_half_precision_goes_on_in_float32(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Some SD1.5 VAEs do; beyond 65504 the whole frame was black."""
    wide, half = (Standalone.open(tiny / "sd15.safetensors", device="cpu", dtype=dtype) for dtype in ("fp32", "fp16"))
    for host in (wide, half):
        with torch.no_grad():
            host.parts.vae.decoder.mid_block.resnets[0].conv2.weight.mul_(3e5)
            host.parts.vae.encoder.mid_block.resnets[0].conv2.weight.mul_(3e5)
    picture = torch.rand(1, 3, 64, 64)
    wanted, drawn = wide.render(CLIP), half.render(CLIP)
    assert half.parts.vae.dtype == torch.float32 and half.parts.unet.dtype == torch.float16
    assert [record.getMessage() for record in caplog.records] == ["the VAE overflows in fp16: it goes on in fp32"]
    assert drawn.std() > 1
    assert np.abs(drawn.astype(float) - wanted).mean() < 4
    half.parts.vae.to(torch.float16)
    assert far(vae.encode(half.parts.vae, picture), vae.encode(wide.parts.vae, picture)) < 0.02
    with torch.no_grad():
        half.parts.vae.decoder.conv_out.bias.fill_(torch.nan)
    with pytest.raises(MotionError, match=r"the VAE made no numbers of this in float32: give a VAE"):
        half.render(CLIP)


def test_a_model_that_does_not_fit_is_one_sentence(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    monkeypatch.setattr(nn.Module, "to", full)
    with pytest.raises(MotionError, match=r"the image model sd15.safetensors does not fit into memory: close"):
        Standalone.open(tiny / "sd15.safetensors", device="cpu")


def test_too_large_a_clip_is_one_sentence(sd15: Standalone, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 TiB")

    monkeypatch.setattr(type(sd15.parts.unet), "forward", full)
    with pytest.raises(MotionError, match="3 frames of 64x64 do not fit into memory"):
        sd15.render(CLIP)
