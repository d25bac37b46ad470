"""The scope in stand-ins for the WebUI hosts: what each holds its noise levels in, and what is left of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from motion.arrangement import Arrangement
from motion.errors import MotionError
from motion.hosts import base
from motion.hosts.a1111 import A1111
from motion.hosts.forge import Forge
from motion.hosts.sampling import Sampling
from motion.network.architecture import SCHEDULES, Architecture
from motion.network.model import MotionModel
from motion.tab import Tab
from motion.weights.lora import Lora, Pair
from motion.windows import Windows

FRAMES = 4
PLAIN, MOVING = (SCHEDULES[name].alphas_cumprod().float() for name in ("scaled_linear", "linear"))


class NoiseLevels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        sigmas = ((1 - PLAIN) / PLAIN).sqrt()
        self.register_buffer("sigmas", sigmas)
        self.register_buffer("log_sigmas", sigmas.log())


class Patcher:
    """A clone shares the model; what is reserved is its own."""

    def __init__(self, model: Any) -> None:
        self.model, self.reserved = model, 0

    def clone(self) -> Patcher:
        return Patcher(self.model)

    def add_extra_preserved_memory_during_sampling(self, size: int) -> None:
        self.reserved += size


def ldm_model() -> Any:
    model = nn.Module()
    model.register_buffer("alphas_cumprod", PLAIN.clone())
    model.alphas_cumprod_original = model.alphas_cumprod
    model.model = SimpleNamespace(diffusion_model=nn.Identity())
    model.is_sd1, model.is_sdxl = True, False
    return model


def sgm_model() -> Any:
    """SDXL's, which has its noise levels in a plain attribute."""
    model = ldm_model()
    del model._buffers["alphas_cumprod"]
    model.alphas_cumprod = model.alphas_cumprod_original
    model.is_sd1, model.is_sdxl = False, True
    return model


def forge_model() -> Any:
    unet = Patcher(SimpleNamespace(diffusion_model=nn.Identity(), predictor=NoiseLevels()))
    return SimpleNamespace(is_sd1=False, is_sdxl=True, forge_objects=SimpleNamespace(unet=unet))


def reforge_model(model: Any) -> Any:
    unet = Patcher(SimpleNamespace(diffusion_model=nn.Identity(), model_sampling=NoiseLevels()))
    model.forge_objects = SimpleNamespace(unet=unet)
    return model


HOSTS = {
    "A1111": (A1111, ldm_model),
    "A1111 SDXL": (A1111, sgm_model),
    "Forge": (Forge, forge_model),
    "reForge": (Forge, lambda: reforge_model(ldm_model())),
    "reForge SDXL": (Forge, lambda: reforge_model(sgm_model())),
}


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    kind, model = HOSTS[request.param]
    loaded = model()
    pretend(monkeypatch, shared=SimpleNamespace(sd_model=loaded, opts=SimpleNamespace(data={})))
    pretend(monkeypatch, sd_models=SimpleNamespace(model_data=SimpleNamespace(sd_model=loaded)))
    return SimpleNamespace(host=kind(), model=loaded)


def pretend(monkeypatch: pytest.MonkeyPatch, **modules: SimpleNamespace) -> None:
    """Let the host's package have these modules."""
    if "modules" not in sys.modules:
        monkeypatch.setitem(sys.modules, "modules", ModuleType("modules"))
    for name, content in modules.items():
        module = ModuleType(f"modules.{name}")
        vars(module).update(vars(content))
        monkeypatch.setitem(sys.modules, f"modules.{name}", module)


def noise_levels(model: Any) -> Iterator[Tensor]:
    """All cumulative alphas that a sampler of the host may ask."""
    if hasattr(model, "alphas_cumprod"):
        yield model.alphas_cumprod
        model.alphas_cumprod = model.alphas_cumprod.clone()  # as samplers do, moving them to another device
    if hasattr(model, "forge_objects"):
        around = model.forge_objects.unet.model
        levels = getattr(around, "predictor", None) or around.model_sampling
        yield 1 / (levels.sigmas**2 + 1)
        yield 1 / (levels.log_sigmas.exp() ** 2 + 1)
        levels._apply(torch.clone)  # as memory managers do
    else:
        yield model.alphas_cumprod_original


def identities(model: Any) -> list[int]:
    around = model.forge_objects.unet.model if hasattr(model, "forge_objects") else model
    levels = getattr(around, "predictor", None) or getattr(around, "model_sampling", nn.Module())
    tables = (vars(model), getattr(model, "_buffers", {}), levels._buffers)
    return [id(value) for table in tables for _, value in sorted(table.items())]


def test_every_sampler_sees_the_schedule_and_nothing_is_left(host: Any) -> None:
    before = identities(host.model)
    with ExitStack() as undo:
        host.host.put_schedule(MOVING.double(), undo)
        found = list(noise_levels(host.model))
        assert len(found) >= 2
        for alphas in found:
            torch.testing.assert_close(alphas, MOVING, rtol=1e-4, atol=1e-6)
    assert identities(host.model) == before
    for alphas in noise_levels(host.model):
        torch.testing.assert_close(alphas, PLAIN, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("downcast", [False, True])
def test_the_hosts_settings_hold_for_the_schedule_too(
    host: Any, monkeypatch: pytest.MonkeyPatch, zero: bool, downcast: bool
) -> None:
    opts = SimpleNamespace(use_downcasted_alpha_bar=downcast, sd_noise_schedule="Zero Terminal SNR" if zero else "")
    pretend(monkeypatch, shared=SimpleNamespace(sd_model=host.model, opts=opts))
    pretend(monkeypatch, sd_models=SimpleNamespace(rescale_zero_terminal_snr_abar=lambda alphas: alphas - alphas[-1]))
    wanted = MOVING.half().float() if downcast else MOVING
    assert torch.equal(base.as_set(MOVING), wanted - wanted[-1] if zero else wanted)
    if not zero:
        host.model.model_config = SimpleNamespace(ztsnr=True)  # of a checkpoint that says so itself
        assert base.as_set(MOVING)[-1] == 0


def test_what_forges_samplers_leave_on_the_model_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    model = forge_model()
    pretend(monkeypatch, shared=SimpleNamespace(sd_model=model))
    for before in (None, PLAIN):
        if before is not None:
            model.alphas_cumprod = before
        with ExitStack() as undo:
            Forge().put_schedule(MOVING, undo)
            model.alphas_cumprod = MOVING
        assert vars(model).get("alphas_cumprod") is before


def test_the_memory_manager_keeps_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a clone, which the host drops; the patcher that it keeps is not touched."""
    model, beside = forge_model(), list(nn.Linear(8, 8).parameters())
    kept = model.forge_objects.unet
    p, arrangement = SimpleNamespace(sd_model=model), Arrangement(Windows(FRAMES))
    with ExitStack() as undo:
        Forge().before_pass(p, None, arrangement, beside, undo)
        assert model.forge_objects.unet.reserved == 4 * (8 * 8 + 8)
    assert kept.reserved == 0
    assert arrangement.prompts == 1


def test_what_is_used_beside_the_unet_is_counted() -> None:
    """Module, and adapters that are on; motion LoRAs become a part of the module."""
    module = MotionModel(Architecture.of_unet("v3", (32, 32, 64, 64)))
    layers = {"down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": Pair(torch.ones(4, 32), torch.ones(32, 4))}
    adapter, lora = (Lora("a", target, layers, {}) for target in ("image", "motion"))
    of_module = sum(weights.nbytes for weights in module.parameters())
    for worn, more in (([(adapter, 0.5), (lora, 1.0)], 4 * 2 * 32 * 4), ([(adapter, 0.0)], 0)):
        sampling = Sampling(Tab(), module, Windows(FRAMES), worn)
        assert sum(weights.nbytes for weights in sampling._beside()) == of_module + more


def test_a1111_batches_every_prompt_of_a_frame_together(monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"batch_cond_uncond": False}
    pretend(monkeypatch, shared=SimpleNamespace(opts=SimpleNamespace(data=options)))
    for prompts in (1, 3):
        arrangement = Arrangement(Windows(FRAMES))
        conditioning = SimpleNamespace(batch=[[object()] * prompts] * FRAMES)
        with ExitStack() as undo:
            A1111().before_pass(SimpleNamespace(), conditioning, arrangement, [], undo)
            assert arrangement.prompts == prompts
            assert options.get("batch_cond_uncond") is (prompts > 1)
        assert options == {"batch_cond_uncond": False}


class Posterior:
    """What a VAE gives: random, but for its mean."""

    def __init__(self, mean: Tensor) -> None:
        self.mean = mean

    def mode(self) -> Tensor:
        return self.mean

    def sample(self) -> Tensor:
        return self.mean + torch.randn_like(self.mean)


def test_pictures_are_encoded_as_the_mean_and_forges_vae_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"other": 1}
    vae = SimpleNamespace(patcher=SimpleNamespace(model_options=options))

    def by_ldm(x: Tensor) -> Posterior:
        return Posterior(x[:, :1])

    def by_forge(x: Tensor) -> Tensor:
        regulation = options.get("model_vae_regulation", Posterior.sample)
        return 0.5 * regulation(by_ldm(x))

    def scaled(found: Any) -> Tensor:
        return 0.5 * (found if isinstance(found, Tensor) else found.sample())

    models = {
        A1111: SimpleNamespace(
            first_stage_model=nn.Identity(), encode_first_stage=by_ldm, get_first_stage_encoding=scaled
        ),
        Forge: SimpleNamespace(
            forge_objects=SimpleNamespace(vae=vae), encode_first_stage=by_forge, get_first_stage_encoding=lambda x: x
        ),
    }
    pixels = torch.rand(1, 3, 8, 8)
    for kind, model in models.items():
        pretend(monkeypatch, shared=SimpleNamespace(sd_model=model, device="cpu"))
        pretend(monkeypatch, devices=SimpleNamespace(dtype_vae=torch.float32))
        torch.testing.assert_close(kind().encode(pixels), 0.5 * (2 * pixels - 1)[:, :1])
    assert options == {"other": 1}


def test_the_loaded_base(host: Any) -> None:
    assert base.loaded_base() == ("sd15" if host.model.is_sd1 else "sdxl")
    host.model.is_sd1 = host.model.is_sdxl = False
    with pytest.raises(MotionError, match=r"choose one of Stable Diffusion 1\.5 or XL"):
        base.loaded_base()


@pytest.mark.parametrize("nothing", [None, SimpleNamespace(cond_stage_model=None)])
def test_before_a_checkpoint_is_loaded_there_is_no_base(monkeypatch: pytest.MonkeyPatch, nothing: Any) -> None:
    pretend(monkeypatch, sd_models=SimpleNamespace(model_data=SimpleNamespace(sd_model=nothing)))
    assert base.loaded_base() is None


def test_what_a_host_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, rng=SimpleNamespace(), paths=SimpleNamespace(models_path="models"))
    assert base.missing(["paths.models_path", "rng.ImageRNG", "ui_extra.Button"]) == [
        "modules.rng.ImageRNG",
        "modules.ui_extra.Button",
    ]
    base.host.cache_clear()
    with pytest.raises(MotionError, match=r"cannot work in this WebUI, which has no .*modules\.rng\.ImageRNG"):
        base.host()
