"""The authors' numbers (tests/oracle) and the small UNets that they belong to."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from diffusers import UNet2DConditionModel
from einops import rearrange
from hypothesis import settings
from safetensors.torch import load_file
from torch import Tensor, nn

from motion.models.motion.architecture import Architecture
from motion.models.motion.model import MotionModel
from motion.weights.formats.ldm import unet_name
from tests.support.small import TEXT, WIDTHS
from tests.support.tiny import tiny

__all__ = ["tiny"]  # a fixture

# The tensors here are small: a second thread brings little alone, and beside other work it waits more than it computes.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # in the processes that tests start, which must round alike

# How long an example takes depends on the machine, and on what else runs there.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

ORACLE = Path(__file__).parent / "oracle"
SLOW = (
    *("cli/test_render.py", "cli/test_train.py", "demo/test_bundled.py", "demo/test_evaluate", "hosts/standalone/"),
    *("sampling/test_cross_frame.py", "techniques/test_text2video_zero.py"),
    *(
        "sampling/test_attach",
        "sampling/test_compile.py",
        "sampling/devices/",
        "sampling/test_one_shot.py",
        "sampling/test_lora.py",
        "sampling/test_together.py",
    ),
    *("sparsectrl/test_attach.py", "sparsectrl/test_clips.py", "sparsectrl/test_parity.py"),
    "sampling/test_step_cache.py",
    *("sparsectrl/test_windows.py", "training/", "weights/test_download.py", "weights/test_library.py"),
)
"""Where the tests are that take seconds each: the inner loop, ``pytest -m "not slow"``, leaves them out."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow."""
    for item in items:
        if item.path.relative_to(ORACLE.parent).as_posix().startswith(SLOW):
            item.add_marker(pytest.mark.slow)


def oracle(name: str) -> dict[str, Tensor]:
    """The tensors of one oracle file; weights as float32."""
    tensors = load_file(ORACLE / f"{name}.safetensors")
    return {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}


@pytest.fixture(scope="session")
def oracle_of() -> Callable[[str], dict[str, Tensor]]:
    return oracle


@pytest.fixture(scope="session")
def unet() -> nn.Module:
    """The oracle's SD1.5 UNet in diffusers' class. Whoever changes it, changes it back."""
    model = UNet2DConditionModel(
        sample_size=8, block_out_channels=WIDTHS, cross_attention_dim=TEXT, attention_head_dim=8
    )
    model.load_state_dict(oracle("unet"))
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def ldm_unet() -> nn.Module:
    """The same weights in the class that AUTOMATIC1111's WebUI runs."""
    with pytest.MonkeyPatch.context() as patch:
        # Asked only whether context_dim is a list of its own kind.
        config = ModuleType("omegaconf.listconfig")
        config.ListConfig = type("ListConfig", (), {})
        patch.setitem(sys.modules, "omegaconf.listconfig", config)
        patch.setitem(sys.modules, "omegaconf", ModuleType("omegaconf"))
        openaimodel = pytest.importorskip("ldm.modules.diffusionmodules.openaimodel")
        model = openaimodel.UNetModel(
            image_size=8,
            in_channels=4,
            out_channels=4,
            model_channels=32,
            channel_mult=(1, 1, 2, 2),
            num_res_blocks=2,
            attention_resolutions=(4, 2, 1),
            num_heads=8,
            use_spatial_transformer=True,
            transformer_depth=1,
            context_dim=TEXT,
            use_checkpoint=False,
            legacy=False,
        )
    model.load_state_dict({unet_name(name): tensor for name, tensor in oracle("unet").items()})
    return model.eval().requires_grad_(False)


@pytest.fixture(params=["unet", "ldm_unet"])
def host(request: pytest.FixtureRequest) -> nn.Module:
    """The UNet in either class."""
    unet: nn.Module = request.getfixturevalue(request.param)
    return unet


@pytest.fixture
def precise(host: nn.Module, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A copy of the UNet in float64, where two ways to the same numbers agree to 1e-9 on every processor.

    In float32 random layers make a thousandfold of the last digit that they differ by.
    """
    unet = copy.deepcopy(host).double()
    if hasattr(unet, "input_blocks"):
        # ldm's class takes its features, norms, attention and time steps to float32 whatever it is given.
        unet.dtype = torch.float64
        monkeypatch.setattr(Tensor, "float", Tensor.double)
    return unet


@pytest.fixture
def inference() -> Iterator[None]:
    """Without gradients, unless the test asks for them."""
    with torch.no_grad():
        yield


@pytest.fixture(scope="session")
def v3() -> MotionModel:
    """The oracle's v3 motion module."""
    return MotionModel.from_state(Architecture.of_unet("v3", WIDTHS), oracle("v3_mm"))


@pytest.fixture(scope="session")
def clip() -> dict[str, Tensor]:
    """The oracle's input for SD1.5 UNets, as a batch: two clips of 16 frames, ``x [(b f) c h w]``, ``t``, ``c``."""
    io = oracle("v3_io")
    return {
        "x": rearrange(io["x"], "b c f h w -> (b f) c h w"),
        "t": io["t"].repeat_interleave(16, 0),
        "c": io["c"].repeat_interleave(16, 0),
    }


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
