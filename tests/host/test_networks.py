"""LoRAs and textual inversions on clips: the host puts them on, and a clip wears them as a picture does."""

from __future__ import annotations

import pytest

from .networks import EMBEDDING, LORA
from .test_api import AS_A_BATCH
from .webui import FRAMES, QUICK, Webui, apart

DIFFERENT = 0.5
"""Mean difference of 255 from which two clips are not the same up to rounding."""
PROMPT = QUICK["prompt"]
WORN = {"LoRA": f"{PROMPT} <lora:{LORA}:1>", "embedding": f"{PROMPT}, {EMBEDDING}"}


@pytest.mark.parametrize("prompt", WORN.values(), ids=WORN)
def test_it_changes_a_clip(webui: Webui, still: str, prompt: str) -> None:
    worn = webui.clip(prompt=prompt)
    assert apart(worn.frames, webui.clip().frames) > DIFFERENT
    assert (webui.clip(prompt=prompt).frames == worn.frames).all()


@pytest.mark.parametrize("prompt", WORN.values(), ids=WORN)
def test_it_does_to_each_frame_what_it_does_to_a_picture(webui: Webui, still: str, prompt: str) -> None:
    """Without motion the clip is the plain batch, to the last bit."""
    plain = webui.txt2img(prompt=prompt, batch_size=FRAMES).pictures[-FRAMES:]
    assert (webui.clip({**AS_A_BATCH, "scale": 0}, prompt=prompt).frames == plain).all()


def test_a_lora_at_0_is_none(webui: Webui, still: str) -> None:
    assert (webui.clip(prompt=f"{PROMPT} <lora:{LORA}:0>").frames == webui.clip().frames).all()


def test_a_lora_together_with_hires_fix(webui: Webui, still: str) -> None:
    hires = {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "denoising_strength": 0.7}
    worn, plain = (webui.clip(prompt=prompt, **hires).frames for prompt in (WORN["LoRA"], PROMPT))
    assert apart(worn, plain) > DIFFERENT
