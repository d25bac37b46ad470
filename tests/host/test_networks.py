"""What the host puts on pictures, it puts on clips alike: LoRAs, textual inversions, ControlNet's reference."""

from __future__ import annotations

import pytest

from .support.networks import EMBEDDING, LORA
from .support.webui import FRAMES, QUICK, Frames, Webui, apart, encoded, moving, needs_controlnet, reference
from .test_api import AS_A_BATCH

DIFFERENT = 0.5
"""Mean difference of 255 from which two clips are not the same up to rounding."""
PROMPT = QUICK["prompt"]
WORN = {"LoRA": f"{PROMPT} <lora:{LORA}:1>", "embedding": f"{PROMPT}, {EMBEDDING}"}


@pytest.mark.parametrize("prompt", WORN.values(), ids=WORN)
def test_it_changes_a_clip(webui: Webui, still: str, prompt: str) -> None:
    with_lora = webui.clip(prompt=prompt)
    assert apart(with_lora.frames, webui.clip().frames) > DIFFERENT
    assert (webui.clip(prompt=prompt).frames == with_lora.frames).all()


@pytest.mark.parametrize("prompt", WORN.values(), ids=WORN)
def test_it_does_to_each_frame_what_it_does_to_a_picture(webui: Webui, still: str, prompt: str) -> None:
    """Without motion the clip is the plain batch, to the last bit."""
    plain = webui.txt2img(prompt=prompt, batch_size=FRAMES).pictures[-FRAMES:]
    assert (webui.clip({**AS_A_BATCH, "scale": 0}, prompt=prompt).frames == plain).all()


def test_a_lora_at_0_is_none(webui: Webui, still: str) -> None:
    assert (webui.clip(prompt=f"{PROMPT} <lora:{LORA}:0>").frames == webui.clip().frames).all()


def test_a_lora_together_with_hires_fix(webui: Webui, still: str) -> None:
    hires = {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "denoising_strength": 0.7}
    with_lora, plain = (webui.clip(prompt=prompt, **hires).frames for prompt in (WORN["LoRA"], PROMPT))
    assert apart(with_lora, plain) > DIFFERENT


@needs_controlnet
def test_a_reference_changes_a_clip(webui: Webui, still: str, first_frame: Frames) -> None:
    """ControlNet puts its own map behind what was drawn."""
    plain, scripts = webui.clip().frames, reference(encoded(first_frame))
    referred = webui.txt2img(alwayson_scripts={**moving()["alwayson_scripts"], **scripts}).pictures
    assert len(referred) == 1 + FRAMES + 1
    assert apart(referred[1:-1], plain) > DIFFERENT
    assert (webui.clip().frames == plain).all()


@needs_controlnet
def test_a_reference_does_to_each_frame_what_it_does_to_a_picture(webui: Webui, first_frame: Frames) -> None:
    scripts = reference(encoded(first_frame))
    still_clip = moving(**{**AS_A_BATCH, "scale": 0})["alwayson_scripts"]
    plain = webui.txt2img(alwayson_scripts=scripts, batch_size=FRAMES).pictures[-FRAMES - 1 : -1]
    clip = webui.txt2img(alwayson_scripts={**still_clip, **scripts}).pictures[1:-1]
    assert (clip == plain).all()
