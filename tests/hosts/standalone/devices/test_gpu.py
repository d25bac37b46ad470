"""Clips on a GPU that is not there: what CUDA would refuse, and what is sent to the device and waited for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

from motion.fields.table import Size
from motion.hosts.controls import Control
from motion.hosts.standalone import Networks, Standalone, sampling
from motion.hosts.standalone.networks.lora import Lora as ImageLora
from motion.models import sites
from motion.models.motion.model import MotionModel
from motion.settings.settings import Clip
from motion.weights.formats.lora import Lora
from tests.support.simulated_gpu import simulated_gpu
from tests.support.small import random_encoder, random_model, random_pair

# diffusers 0.42 turns tensors into arrays in a way NumPy 2.4 frowns upon, whenever a scheduler holds sigmas.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")

FRAMES, STEPS, WIDTHS, TEXT = 4, 3, (32, 64, 64, 64), 32
CLIP = Clip("a red circle", "grey", cfg=2.0, frames=FRAMES, steps=STEPS, seed=1, size=Size(64, 64), sampler="euler")
LONG = replace(CLIP, frames=6, context_length=4, context_overlap=1)
IMAGE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
PIXELS = {"embedding": (16, 32, 96, 256), "condition": 3}
PROJECTION = "temporal_transformer.transformer_blocks.0.attention_blocks.0.to_q"


def moving(host: Standalone, module: MotionModel) -> Networks:
    return Networks(module)


def with_loras(host: Standalone, module: MotionModel) -> Networks:
    """A motion LoRA and a domain adapter."""
    layers = sites.attention_layers(host.parts.unet)
    pairs = {name: random_pair(layer.out_features, layer.in_features) for name, layer in layers.items()}
    camera = {f"down_blocks.0.motion_modules.0.{PROJECTION}": random_pair(WIDTHS[0], WIDTHS[0])}
    return Networks(
        module, attached=[(Lora("adapter", "image", pairs, {}), 0.5), (Lora("pan", "motion", camera, {}), 1)]
    )


def with_loras_and_keys(host: Standalone, module: MotionModel) -> Networks:
    return replace(with_loras(host, module), controls=with_keys(host, module).controls)


def with_keys(host: Standalone, module: MotionModel, **shape: Any) -> Networks:
    encoder = random_encoder(WIDTHS, TEXT, positions=FRAMES, **shape)
    return Networks(module, controls=[Control(Path("encoder"), {0: IMAGE, 3: IMAGE}, encoder=encoder)])


def with_sketch(host: Standalone, module: MotionModel) -> Networks:
    return with_keys(host, module, **PIXELS)


def held(host: Standalone, module: MotionModel) -> Networks:
    return Networks(module, controls=[Control(None, {0: IMAGE})])


SCENES: dict[str, tuple[Clip, Callable[[Standalone, MotionModel], Networks]]] = {
    "LoRAs, key frames": (CLIP, with_loras_and_keys),
    "windows": (LONG, moving),
    "windows, sketch, cache": (replace(LONG, key_start=0.1, cache="light", steps=5, cfg=1.0), with_sketch),
    "attention, travelling": (
        replace(LONG, context_engine="attention", prompt="0: a red circle\n5: a blue square", travel="spherical"),
        moving,
    ),
    "techniques": (
        replace(CLIP, temporal_guidance=1.5, rescale_cfg=0.7, cfg_last=3.0, scale="0: 1, 3: 0.5", cross_frame="full"),
        moving,
    ),
    "held": (replace(CLIP, hold_keys="clean", key_scale=0.0), held),
}


@pytest.fixture(scope="module")
def module() -> MotionModel:
    return random_model(widths=WIDTHS, positions=FRAMES)


@pytest.mark.parametrize("scene", SCENES)
def test_a_step_sends_little_and_waits_once(
    scene: str, tiny: Path, module: MotionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Latents go there and come back, of whatever calls of the UNet a step is made of. In the first step weights go
    there as well, and what windows count by; behind that and the last it is asked what SparseCtrl did."""
    (clip, networks), marks = SCENES[scene], [0]
    if clip.context_length:
        monkeypatch.setattr(sampling, "GUIDED_AT_ONCE", 0)  # prompt and negative prompt take turns
    with simulated_gpu() as gpu:
        host = Standalone.open(tiny / "sd15.safetensors", "cuda", "fp32")
        frames = host.render(clip, networks(host, module), lambda done, steps: marks.append(len(gpu.events)))
    assert frames.shape == (clip.frames, 64, 64, 3)
    begin, end = marks[-3:-1]
    events = gpu.events[begin:end]
    last = Counter(event.kind for event in events)
    assert last["to device"] <= 2 and last["to host"] == 1 and not last["wait"], events


def test_of_a_very_long_clip_a_window_at_a_time_goes_there(
    tiny: Path, module: MotionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "HELD_AT_ONCE", 0)
    marks = [0]
    with simulated_gpu() as gpu:
        host = Standalone.open(tiny / "sd15.safetensors", "cuda", "fp32")
        host.render(replace(LONG, steps=2, cfg=1.0), module, lambda done, steps: marks.append(len(gpu.events)))
    of_step = [event for event in gpu.events[marks[-2] : marks[-1]] if event.kind == "to device"]
    assert len(of_step) > 1 and {event.size for event in of_step} == {4 * LONG.context_length * 8 * 8 * 4}


def test_what_is_drawn_in_half_precision_stays_in_it(tiny: Path, module: MotionModel) -> None:
    clip = replace(CLIP, steps=2)
    with simulated_gpu():
        host = Standalone.open(tiny / "sd15.safetensors", "cuda", "bf16")
        assert host.render(clip, with_loras_and_keys(host, module)).shape == (FRAMES, 64, 64, 3)


def test_a_lora_is_multiplied_on_the_device(tiny: Path, tmp_path: Path) -> None:
    """What is sent is its matrices, a quarter of the matrix that they make."""
    state = {}
    with simulated_gpu() as gpu:
        host = Standalone.open(tiny / "sd15.safetensors", "cuda", "fp32")
        for name, layer in sites.attention_layers(host.parts.unet).items():
            pair, key = random_pair(layer.out_features, layer.in_features, 4), "lora_unet_" + name.replace(".", "_")
            state |= {f"{key}.lora_down.weight": pair.down, f"{key}.lora_up.weight": pair.up}
        save_file(state, tmp_path / "a.safetensors")
        mark = len(gpu.events)
        host.render(replace(CLIP, steps=2), Networks(loras=[ImageLora(tmp_path / "a.safetensors", 1.0)]))
    sent = sum(event.size for event in gpu.events[mark:] if "pairs.py" in event.line)
    assert sent == sum(matrix.nbytes for matrix in state.values())
