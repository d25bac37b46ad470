"""The UNet classes that live in a WebUI's own checkout: `SD_WEBUI_DIR=/path/to/forge pytest tests/hosts`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn

import motion
import sparsectrl
from motion.models.motion.architecture import Architecture
from motion.models.motion.model import MotionModel
from motion.training.lora import Layers, LoraWeights, adapter_layers, motion_layers
from motion.weights.formats.ldm import unet_name
from motion.weights.formats.lora import Lora, Target
from tests.support.small import far

WEBUI = Path(os.environ.get("SD_WEBUI_DIR", "/nowhere"))
CLASSES = {
    "backend/nn/unet.py": ("backend.args", "backend.nn.unet", "IntegratedUNet2DConditionModel", {}),
    "ldm_patched/ldm/modules/diffusionmodules/openaimodel.py": (
        "ldm_patched.modules.args_parser",
        "ldm_patched.ldm.modules.diffusionmodules.openaimodel",
        "UNetModel",
        {"image_size": 8, "legacy": False, "dtype": torch.float32},
    ),
}
SHAPE = {
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "channel_mult": (1, 1, 2, 2),
    "num_res_blocks": 2,
    "num_heads": 8,
    "use_spatial_transformer": True,
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
    "context_dim": 48,
}


FRAMES, WIDTHS = 16, (32, 32, 64, 64)


def host_unet(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    arguments, module, name, extra = next(
        (names for file, names in CLASSES.items() if (WEBUI / file).exists()), (None,) * 4
    )
    if module is None:
        pytest.skip("SD_WEBUI_DIR names no checkout of Forge, reForge or Forge Classic")
    monkeypatch.setattr(sys, "argv", sys.argv[:1])
    for folder in (WEBUI / "packages_3rdparty", WEBUI):
        monkeypatch.syspath_prepend(folder)
    try:
        import_module(arguments).args.always_cpu = True
        return getattr(import_module(module), name)(**SHAPE, **extra)
    except ImportError as missing:
        pytest.skip(f"the WebUI in SD_WEBUI_DIR does not import here: {missing}")


def random_lora(layers: Layers, target: Target) -> Lora:
    weights = LoraWeights(layers, target, rank=4).requires_grad_(False)
    for up in weights.up:
        torch.nn.init.normal_(up, std=0.2)
    return weights.lora


@pytest.mark.filterwarnings("ignore")
def test_loras_in_a_hosts_class_are_those_in_diffusers(
    monkeypatch: pytest.MonkeyPatch,
    oracle_of: Callable[[str], dict[str, Tensor]],
    clip: dict[str, Tensor],
    unet: nn.Module,
) -> None:
    host = host_unet(monkeypatch)
    host.load_state_dict({unet_name(name): tensor for name, tensor in oracle_of("unet").items()})
    v3 = MotionModel.from_state(Architecture.of_unet("v3", WIDTHS), oracle_of("v3_mm"))
    loras = [(random_lora(adapter_layers(unet), "image"), 0.7), (random_lora(motion_layers(v3), "motion"), 0.8)]
    with torch.inference_mode():
        plain = host(clip["x"], clip["t"], context=clip["c"])
        with motion.attach(host, v3, FRAMES):
            moving = host(clip["x"], clip["t"], context=clip["c"])
            with motion.lora.attach(host, v3, loras):
                with_lora = host(clip["x"], clip["t"], context=clip["c"])
        assert torch.equal(host(clip["x"], clip["t"], context=clip["c"]), plain)
        with motion.attach(unet, v3, FRAMES), motion.lora.attach(unet, v3, loras):
            expected = unet(clip["x"], clip["t"], clip["c"]).sample
    assert far(with_lora, expected) <= 1e-5
    assert far(with_lora, moving) > 1e-2


@pytest.mark.filterwarnings("ignore")
def test_parity_and_a_clean_exit(
    monkeypatch: pytest.MonkeyPatch,
    oracle_of: Callable[[str], dict[str, Tensor]],
    clip: dict[str, Tensor],
) -> None:
    unet = host_unet(monkeypatch)
    unet.load_state_dict({unet_name(name): tensor for name, tensor in oracle_of("unet").items()})
    v3 = MotionModel.from_state(Architecture.of_unet("v3", WIDTHS), oracle_of("v3_mm"))
    expected, controlled = (
        rearrange(oracle_of(name)["y"], "b c f h w -> (b f) c h w") for name in ("v3_io", "sparse_rgb_io")
    )
    encoder = sparsectrl.load(Path(__file__).parents[2] / "oracle" / "sparse_rgb.safetensors")
    first, last = oracle_of("sparse_rgb_io")["cond"][0].unbind(1)
    condition = sparsectrl.condition({0: first, -1: last}, frames=FRAMES)
    with torch.inference_mode():
        plain = unet(clip["x"], clip["t"], context=clip["c"])
        with motion.attach(unet, v3, frames=FRAMES):
            moving = unet(clip["x"], clip["t"], context=clip["c"])
            with sparsectrl.attach(unet, encoder, condition, frames=FRAMES, scale=0.8):
                obeying = unet(clip["x"], clip["t"], context=clip["c"])
        again = unet(clip["x"], clip["t"], context=clip["c"])
    assert far(moving, expected) <= 1e-5
    assert far(obeying, controlled) <= 5e-5
    assert torch.equal(again, plain)
