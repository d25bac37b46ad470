"""Key frames in the passes of a WebUI's sampling, on a small UNet."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from motion.errors import MotionError
from motion.hosts.controls import Control
from motion.hosts.webui import key_frames
from motion.hosts.webui.key_frames import KeyFrameControls
from motion.sampling.arrangement import Arrangement
from motion.sampling.windows import Windows
from motion.settings.tab import Tab
from sparsectrl.encoder import Shape, SparseEncoder

FRAMES = 3
SMALL, LARGE = torch.randn(FRAMES, 4, 8, 8), torch.randn(FRAMES, 4, 16, 16)


def make_unet(seed: int) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    blocks = {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
              "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")}  # fmt: skip
    unet = UNet2DConditionModel(block_out_channels=(32, 64), cross_attention_dim=32, attention_head_dim=8, **blocks)
    return unet.eval().requires_grad_(False)


class Host:
    """A host with two UNets, and a VAE that counts what it encodes."""

    def __init__(self) -> None:
        self.unets = [make_unet(0), make_unet(1)]
        self.encoded = 0
        self.broken: Exception | None = None

    def unet(self) -> nn.Module:
        return self.unets[0]

    def encode(self, pixels: Tensor) -> Tensor:
        if self.broken is not None:
            raise self.broken
        self.encoded += 1
        return nn.functional.avg_pool2d(pixels.mean(1, keepdim=True), 8).expand(-1, 4, -1, -1)

    def run(self, latents: Tensor, t: float = 500) -> Tensor:
        return self.unet()(latents, torch.tensor(t), torch.ones(FRAMES, 4, 32)).sample


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host()
    made_state = SimpleNamespace(interrupted=False, skipped=False)
    monkeypatch.setattr(key_frames, "host", lambda: made)
    monkeypatch.setattr(key_frames, "encode", made.encode)
    monkeypatch.setattr(key_frames, "host_module", lambda name: SimpleNamespace(state=made_state))
    made.state = made_state  # type: ignore[attr-defined]
    return made


def keys(trained: bool = True, **settings: Any) -> KeyFrameControls:
    torch.manual_seed(2)
    encoder = SparseEncoder(Shape((32, 64), 32)).requires_grad_(False)
    for parameter in encoder.parameters():
        if trained and not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    image = np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8)
    control = Control(Path("rgb.safetensors"), {0: image, 2: image}, {2: 0.5})
    return KeyFrameControls(Tab(**settings), [(control, encoder)], Arrangement(Windows(FRAMES)))


def test_each_pass_obeys_in_its_own_size_and_nothing_is_left(host: Host) -> None:
    plain = [host.run(latents) for latents in (SMALL, LARGE)]
    job = keys()
    with job.scope():
        assert (host.run(SMALL) == plain[0]).all(), "before a pass has begun"
        for latents, before in zip((SMALL, LARGE), plain, strict=True):
            job.begin(latents)
            assert (host.run(latents) != before).any()
    (control,) = job.controls
    assert host.encoded == 4
    assert control.effect is not None and control.effect.passes == 2 and control.effect.strength > 0
    assert control.effect.keys == (0, 2)
    assert (host.run(SMALL) == plain[0]).all()
    assert not host.unet()._forward_pre_hooks


def test_the_images_are_encoded_once_for_passes_of_one_size_and_anew_by_another_vae(host: Host) -> None:
    job = keys()
    for _ in range(2):  # a batch each
        with job.scope():
            for _ in range(2):  # Forge announces a pass twice
                job.begin(SMALL)
            host.run(SMALL)
    assert host.encoded == 2
    with job.scope():
        with job.elsewhere():
            host.unets.reverse()
        job.begin(SMALL)
        host.run(SMALL)
    assert host.encoded == 4


def test_the_pass_in_progress_goes_on_with_another_model(host: Host) -> None:
    plain = [unet(SMALL, torch.tensor(500), torch.ones(FRAMES, 4, 32)).sample for unet in host.unets]
    job = keys()
    with job.scope():
        job.begin(SMALL)
        host.run(SMALL)
        with job.elsewhere():
            assert (host.run(SMALL) == plain[0]).all()
            host.unets.reverse()
        assert (host.run(SMALL) != plain[1]).any()
        assert host.encoded == 2
    assert job.controls[0].effect is not None and job.controls[0].effect.passes == 2


def test_what_goes_wrong_where_the_host_does_not_listen_is_raised_by_the_unet(host: Host) -> None:
    host.broken = MotionError("the VAE is gone")
    job = keys()
    with pytest.raises(MotionError, match="the VAE is gone"), job.scope():
        job.begin(SMALL)
        host.run(SMALL)
    assert not host.unet()._forward_pre_hooks


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        (lambda: keys(trained=False), "all its residuals are zero"),
        (lambda: keys(key_scale=0), "its scale is 0"),
        (lambda: keys(key_start=0.9), "no step lies in"),
    ],
)
def test_controls_that_do_nothing_stop_the_job(host: Host, job: Any, reason: str) -> None:
    made = job()
    with pytest.raises(MotionError, match=f"rgb.safetensors: SparseCtrl does nothing: {reason}"), made.scope():
        made.begin(SMALL)
        for _ in range(2):
            host.run(SMALL)


@pytest.mark.parametrize("how", ["interrupted", "skipped"])
def test_a_job_that_its_user_ends_is_no_mistake(host: Any, how: str) -> None:
    job = keys(key_start=0.9)
    with job.scope():
        job.begin(SMALL)
        host.run(SMALL)
        setattr(host.state, how, True)


def test_without_controls_no_host_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_frames, "host", lambda: pytest.fail("asked"))
    monkeypatch.setattr(key_frames, "host_module", lambda name: pytest.fail("asked"))
    job = KeyFrameControls(Tab(), [], Arrangement(Windows(FRAMES)))
    with job.scope():
        job.begin(SMALL)
        with job.elsewhere():
            pass
