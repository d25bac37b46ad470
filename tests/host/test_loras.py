"""Motion LoRAs, the domain adapter, the host's own prompt LoRAs and embeddings in one clip of a real host."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from motion import load
from motion.hosts.standalone.checkpoint import open_parts
from motion.settings.tab import TAB_FIELDS
from motion.training.lora import Layers, adapter_layers, motion_layers

from .support.models import CHECKPOINT, MODULE
from .support.networks import EMBEDDING, LORA
from .support.page import WebuiPage
from .support.webui import FRAMES, QUICK, Webui, apart
from .test_api import AS_A_BATCH

SAME, CHANGED, DIFFERENT = 0.5, 0.5, 1.0
"""Mean difference of 255 up to which two clips are the same, and from which what the host and what we put on shows."""
PROMPT = QUICK["prompt"]
WITH = {"LoRA": f"{PROMPT} <lora:{LORA}:1>", "embedding": f"{PROMPT}, {EMBEDDING}"}


def processor(layer: str, side: str) -> str:
    parent, _, part = layer.removesuffix(".0").rpartition(".")
    return f"{parent}.processor.{part}_lora.{side}.weight"


def kohya(layer: str, side: str) -> str:
    return f"lora_unet_{layer.replace('.', '_')}.lora_{side}.weight"


def save(path: Path, layers: Layers, name: Callable[[str, str], str], seed: int) -> None:
    """A random LoRA of these layers, ``{name: (out, in)}``."""
    draw = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer, (out, inner) in layers.items():
        tensors[name(layer, "down")] = torch.randn(4, inner, generator=draw) / inner**0.5
        tensors[name(layer, "up")] = torch.randn(out, 4, generator=draw) / 4
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)


@pytest.fixture(scope="module")
def loras(webui: Webui) -> None:
    """`pan` and the adapter `look` in models/motion, `zoom` and `look` under the host's own names in models/Lora."""
    models = webui.server.data / "models"
    temporal = motion_layers(load(models / f"motion/{MODULE}.safetensors"))
    spatial = adapter_layers(open_parts(models / f"Stable-diffusion/{CHECKPOINT}.safetensors").unet)
    save(models / "motion/pan.safetensors", temporal, processor, seed=1)
    save(models / "Lora/zoom.safetensors", temporal, processor, seed=2)
    save(models / "motion/look.safetensors", spatial, processor, seed=3)
    save(models / "Lora/host_look.safetensors", spatial, kohya, seed=3)
    webui.post("/sdapi/v1/refresh-loras")


def test_the_adapter_is_what_the_host_makes_of_the_same_matrices(webui: Webui, still: str, loras: None) -> None:
    plain = webui.clip().frames
    ours = webui.clip({"adapter": "look", "adapter_scale": 0.5}).frames
    hosts = webui.clip(prompt=f"{PROMPT}<lora:host_look:0.5>").frames
    assert apart(ours, plain) > DIFFERENT
    assert apart(ours, hosts) < SAME
    both = webui.clip({"adapter": "look", "adapter_scale": 0.25}, prompt=f"{PROMPT}<lora:host_look:0.25>").frames
    assert apart(both, hosts) < SAME


def test_a_motion_lora_in_the_prompt_is_one_in_the_tab(webui: Webui, still: str, loras: None) -> None:
    plain = webui.clip().frames
    tab = webui.clip({"loras": "zoom:0.8"}).frames
    prompt = webui.clip(prompt=f"{PROMPT}<lora:zoom:0.8>").frames
    assert apart(tab, plain) > DIFFERENT
    assert (prompt == tab).all()
    assert (webui.clip({"loras": "zoom:0", "adapter": "look", "adapter_scale": 0}).frames == plain).all()


def test_a_tag_that_cannot_be_followed_is_refused(webui: Webui, still: str, loras: None) -> None:
    reply = webui.refusal({}, prompt=f"{PROMPT}<lora:zoom:1:lbw=MIDD>")
    assert reply.status == 422 and "zoom with lbw" in reply.sentence


def test_layers_of_a_middle_block_are_left_out_with_a_comment(webui: Webui, still: str, loras: None) -> None:
    """As of the authors' camera moves, which are made for v2."""
    folder = webui.server.data / "models/motion"
    tensors = load_file(folder / "pan.safetensors")
    block = next(iter(tensors)).split(".motion_modules")[0]
    named = [name for name in tensors if name.startswith(block)]
    middle = {name.replace(block, "mid_block"): tensors[name].clone() for name in named}
    save_file({**tensors, **middle}, folder / "roll.safetensors")
    with webui.calls("modules.processing.StableDiffusionProcessing.comment") as comments:
        result = webui.clip({"loras": "roll:0.8"})
    assert "roll changes a middle block" in str(comments)
    assert (result.frames == webui.clip({"loras": "pan:0.8"}).frames).all()


ALL = {"loras": "pan:0.4, zoom:0.3", "adapter": "look", "adapter_scale": 0.2}
ALL_PROMPT = f"{PROMPT}<lora:host_look:0.1>"


def test_all_of_them_in_one_clip(webui: Webui, still: str, loras: None) -> None:
    result = webui.clip(ALL, prompt=ALL_PROMPT)
    text = result.info["infotexts"][0]
    assert 'Motion LoRA: "pan:0.4, zoom:0.3"' in text and "Motion adapter: look" in text
    assert "<lora:host_look:0.1>" in text and "Motion adapter scale: 0.2" in text
    turned = webui.clip({**ALL, "loras": "zoom:0.3, pan:0.4"}, prompt=ALL_PROMPT)
    assert (result.frames == turned.frames).all()


def test_all_of_them_pasted_back(webui: Webui, loras: None, page: WebuiPage) -> None:
    page.enable()
    page.host_fill("prompt", webui.clip(ALL, prompt=ALL_PROMPT).info["infotexts"][0])
    page.paste()
    page.photograph("loras-pasted")
    assert page.host_value("prompt") == ALL_PROMPT
    assert TAB_FIELDS["loras"].check(page.loras_text) == TAB_FIELDS["loras"].check(ALL["loras"])
    assert page.value("adapter").startswith("look")
    assert float(page.value("adapter_scale")) == ALL["adapter_scale"]


def test_the_page_suggests_the_adapter(webui: Webui, loras: None, page: WebuiPage) -> None:
    """To the module that is chosen, as long as no adapter is."""
    page.enable()
    page.choose("module", MODULE)
    suggestion = page.motion.get_by_role("button", name="which belongs to this module")
    suggestion.click()
    suggestion.wait_for(state="hidden")
    page.unfold("LoRA and adapter")
    assert "look" in page.value("adapter")


def test_a_file_in_the_wrong_place_is_refused(webui: Webui, still: str, loras: None) -> None:
    for settings, words in (
        ({"loras": "look:1"}, "is a domain adapter, and not a motion LoRA"),
        ({"adapter": "pan"}, "is a motion LoRA, and not a domain adapter"),
        ({"loras": "nobody:1"}, "is none of the motion LoRAs and adapters"),
    ):
        reply = webui.refusal(settings)
        assert reply.status == 422 and words in reply.sentence


@pytest.mark.parametrize("prompt", WITH.values(), ids=WITH)
def test_it_changes_a_clip(webui: Webui, still: str, prompt: str) -> None:
    with_lora = webui.clip(prompt=prompt)
    assert apart(with_lora.frames, webui.clip().frames) > CHANGED
    assert (webui.clip(prompt=prompt).frames == with_lora.frames).all()


@pytest.mark.parametrize("prompt", WITH.values(), ids=WITH)
def test_it_does_to_each_frame_what_it_does_to_a_picture(webui: Webui, still: str, prompt: str) -> None:
    """Without motion the clip is the plain batch, to the last bit."""
    plain = webui.txt2img(prompt=prompt, batch_size=FRAMES).pictures[-FRAMES:]
    assert (webui.clip({**AS_A_BATCH, "scale": 0}, prompt=prompt).frames == plain).all()


def test_a_lora_at_0_is_none(webui: Webui, still: str) -> None:
    assert (webui.clip(prompt=f"{PROMPT} <lora:{LORA}:0>").frames == webui.clip().frames).all()


def test_a_lora_together_with_hires_fix(webui: Webui, still: str) -> None:
    hires = {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "denoising_strength": 0.7}
    with_lora, plain = (webui.clip(prompt=prompt, **hires).frames for prompt in (WITH["LoRA"], PROMPT))
    assert apart(with_lora, plain) > CHANGED
