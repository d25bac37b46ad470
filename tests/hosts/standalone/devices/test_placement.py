"""Little memory: the same clip, with less on the device at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from motion.fields.table import Size
from motion.hosts.memory import SPARING_ROWS
from motion.hosts.standalone import Networks, Standalone
from motion.models import sites
from motion.models.motion.model import MotionModel
from motion.sampling.effect import MotionEffect
from motion.settings.settings import Clip
from tests.support.simulated_gpu import simulated_gpu
from tests.support.small import random_model

# diffusers 0.42 turns tensors into arrays in a way NumPy 2.4 frowns upon, whenever a scheduler holds sigmas.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")

CLIP = Clip("a red circle", "grey", cfg=2.0, frames=4, steps=2, seed=1, size=Size(64, 64), sampler="euler")


@pytest.fixture(scope="module")
def module() -> MotionModel:
    return random_model(widths=(32, 64, 64, 64), positions=4)


def opened(tiny: Path, **options: Any) -> Standalone:
    return Standalone.open(tiny / "sd15.safetensors", **options)


def test_a_clip_drawn_sparingly_is_the_same(tiny: Path, module: MotionModel) -> None:
    """To rounding: oneDNN sums the channels of a 1 x 1 convolution in blocks that go by the number of frames.
    `test_attach_windows` has it in float64."""
    usual, sparing = (opened(tiny, device="cpu", sparing=how) for how in (False, True))
    seen: set[int] = set()
    layer = sites.find(sparing.parts.unet).resblocks[0].conv1
    layer.register_forward_pre_hook(lambda _, args: seen.add(len(args[0])))
    found, wanted = (one.render(CLIP, module).astype(int) for one in (sparing, usual))
    assert np.abs(found - wanted).max() <= 1
    assert seen == {SPARING_ROWS}


def test_the_unet_has_the_device_for_itself(tiny: Path, module: MotionModel) -> None:
    """A technique that looks at pictures has the VAE for as long."""
    places: dict[str, set[str]] = {"unet": set(), "vae": set()}
    with simulated_gpu():
        host = opened(tiny, device="cuda", dtype="fp32", sparing=True)
        parts = host.parts
        beside = [parts.vae, *(encoder.model for encoder in parts.encoders)]

        def look(name: str) -> Any:
            return lambda *_: places[name].update(next(part.parameters()).device.type for part in beside)

        parts.unet.register_forward_pre_hook(look("unet"))
        parts.vae.decoder.register_forward_pre_hook(lambda *_: places["vae"].add(parts.vae.device.type))
        host.render(replace(CLIP, smoothing=0.5), Networks(module))
        assert {next(part.parameters()).device.type for part in beside} == {"cuda"}
    assert places == {"unet": {"cpu"}, "vae": {"cuda"}}


def test_a_gpu_with_little_left_is_used_sparingly(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
    for free, sparing in ((2 * 2**30, True), (4 * 2**30, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 8 * 2**30))
        with simulated_gpu():
            assert opened(tiny, device="cuda", dtype="fp32").sparing is sparing


def test_fp8_stores_matrices_in_a_byte_and_computes_in_half_precision(tiny: Path, module: MotionModel) -> None:
    """Those of the UNet, and of motion modules: a byte for each number of theirs goes to the device."""
    exact = opened(tiny, device="cpu", dtype="fp16")
    with simulated_gpu() as gpu:
        host = opened(tiny, device="cuda", dtype="fp8")
        stored = {layer.weight.dtype for layer in sites.attention_layers(host.parts.unet).values()}
        mark = len(gpu.events)
        found = host.render(CLIP, Networks(module, further=[(module, MotionEffect(0.5))])).astype(int)
    assert stored == {torch.float8_e4m3fn}
    assert len(events := [event for event in gpu.events[mark:] if event.size > 2**16]) == 2, "in one piece each"
    assert all(event.size == sum(x.numel() for x in module.parameters() if x.ndim > 1) for event in events)
    wanted = exact.render(CLIP, Networks(module, further=[(module, MotionEffect(0.5))])).astype(int)
    assert 0 < np.abs(found - wanted).mean() < 8
