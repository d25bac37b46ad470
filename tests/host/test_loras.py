"""Motion LoRAs, the domain adapter and the host's own prompt LoRAs in one clip of a real host."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from motion.demo.bundle import DEMO
from motion.network.sites import attention_layers
from motion.training.image import ImageModel

from .webui import QUICK, Webui, apart

SAME, DIFFERENT = 0.5, 1.0
"""Mean difference of 255 up to which two clips are the same, and from which they are not."""
PROMPT = QUICK["prompt"]


def processor(layer: str, side: str) -> str:
    parent, _, part = layer.removesuffix(".0").rpartition(".")
    return f"{parent}.processor.{part}_lora.{side}.weight"


def kohya(layer: str, side: str) -> str:
    return f"lora_unet_{layer.replace('.', '_')}.lora_{side}.weight"


def save(path: Path, layers: dict[str, tuple[int, int]], name: Callable[[str, str], str], seed: int) -> None:
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
    from motion import load

    temporal = {
        f"{slot}.temporal_transformer.transformer_blocks.0.attention_blocks.{a}.{part}": (layer.proj_in.in_features,)
        * 2
        for slot, layer in load(DEMO["motion"]).slots.items()
        for a in (0, 1)
        for part in ("to_q", "to_k", "to_v", "to_out.0")
    }
    found = attention_layers(ImageModel.build().unet)
    spatial = {name: (int(layer.out_features), int(layer.in_features)) for name, layer in found.items()}  # type: ignore[arg-type]
    models = webui.server.data / "models"
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


def test_all_of_them_in_one_clip(webui: Webui, still: str, loras: None) -> None:
    settings = {"loras": "pan:0.4, zoom:0.3", "adapter": "look", "adapter_scale": 0.2}
    result = webui.clip(settings, prompt=f"{PROMPT}<lora:host_look:0.1>")
    text = result.info["infotexts"][0]
    assert 'Motion LoRA: "pan:0.4, zoom:0.3"' in text and "Motion adapter: look" in text
    assert "<lora:host_look:0.1>" in text and "Motion adapter scale: 0.2" in text
    turned = webui.clip({**settings, "loras": "zoom:0.3, pan:0.4"}, prompt=f"{PROMPT}<lora:host_look:0.1>")
    assert (result.frames == turned.frames).all()


def test_a_file_in_the_wrong_place_is_refused(webui: Webui, still: str, loras: None) -> None:
    for settings, words in (
        ({"loras": "look:1"}, "is a domain adapter, and not a motion LoRA"),
        ({"adapter": "pan"}, "is a motion LoRA, and not a domain adapter"),
        ({"loras": "nobody:1"}, "is none of the motion LoRAs and adapters"),
    ):
        reply = webui.refusal(settings)
        assert reply.status == 422 and words in reply.sentence
