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

from motion.errors import MotionError
from motion.hosts.webui.backends import base, detect
from motion.hosts.webui.backends.a1111 import A1111
from motion.hosts.webui.backends.forge import Forge
from motion.hosts.webui.backends.mean import encoding_to_the_mean
from motion.hosts.webui.sampling import Sampling
from motion.models.motion.architecture import SCHEDULES, Architecture, zero_terminal_snr
from motion.models.motion.model import MotionModel
from motion.sampling.arrangement import Arrangement
from motion.sampling.windows import Windows
from motion.settings.tab import Tab
from motion.weights.formats.lora import Lora
from motion.weights.formats.pairs import Pair

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
        self.modifiers: list[Any] = []

    def clone(self) -> Patcher:
        return Patcher(self.model)

    def add_conditioning_modifier(self, modifier: Any) -> None:
        self.modifiers.append(modifier)

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
    wanted = MOVING.half().float() if downcast else MOVING
    assert torch.equal(base.as_set(MOVING), zero_terminal_snr(wanted) if zero else wanted)
    if not zero:
        host.model.model_config = SimpleNamespace(ztsnr=True)  # of a checkpoint that says so itself
        assert torch.equal(base.as_set(MOVING), zero_terminal_snr(wanted))


def test_a_setting_that_a_host_lacks_counts_as_its_default(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, shared=SimpleNamespace(sd_model=host.model, opts=SimpleNamespace()))
    assert torch.equal(base.as_set(MOVING), MOVING)


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
    for dtype, size in {torch.float32: 4, torch.float16: 2}.items():  # that of the copies, whatever the file's
        kept.model.computation_dtype = dtype
        model.forge_objects.unet = kept
        with ExitStack() as undo:
            Forge().before_pass(p, None, arrangement, beside, undo)
            assert model.forge_objects.unet.reserved == size * (8 * 8 + 8)
    assert kept.reserved == 0
    assert arrangement.prompts == 1


@pytest.mark.parametrize("engine", ["denoiser", "attention"])
@pytest.mark.parametrize("frames", [16, 160])
def test_memory_is_asked_for_the_frames_that_are_computed_together(frames: int, engine: str) -> None:
    model = forge_model()
    around = model.forge_objects.unet.model
    around.memory_required = plain = lambda input_shape, cond_shapes=None: input_shape[0] * input_shape[2]
    arrangement = Arrangement(Windows(frames, 16 if frames > 16 else None, engine=engine))
    together = 16 if engine == "denoiser" else frames
    with ExitStack() as undo:
        Forge().before_pass(SimpleNamespace(sd_model=model), None, arrangement, [], undo)
        for prompts in (1, 2):
            assert around.memory_required([prompts * frames, 4, 64, 64]) == prompts * together * 64
        assert around.memory_required([1, 4, 64, 64], cond_shapes={}) == together * 64, "ersatz asks for one picture"
        assert len(model.forge_objects.unet.modifiers) == (together < frames), "ControlNets run by the window"
    assert around.memory_required is plain


def test_what_is_used_beside_the_unet_is_counted() -> None:
    """Module, and adapters that are on; motion LoRAs become a part of the module."""
    module = MotionModel(Architecture.of_unet("v3", (32, 32, 64, 64)))
    layers = {"down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": Pair(torch.ones(4, 32), torch.ones(32, 4))}
    adapter, lora = (Lora("a", target, layers, {}) for target in ("image", "motion"))
    of_module = sum(weights.nbytes for weights in module.parameters())
    for with_lora, more in (([(adapter, 0.5), (lora, 1.0)], 4 * 2 * 32 * 4), ([(adapter, 0.0)], 0)):
        sampling = Sampling(Tab(), module, Windows(FRAMES), with_lora)
        assert sum(weights.nbytes for weights in sampling._to_come()) == of_module + more
        sampling._copied = True  # a pass has run
        assert not sampling._to_come()


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


GAUSSIAN = "DiagonalGaussianDistribution"


class Gaussian:
    """What a VAE gives: random, but for its mean."""

    def __init__(self, mean: Tensor) -> None:
        self.mean = mean

    def mode(self) -> Tensor:
        return self.mean

    def sample(self, generator: Any = None) -> Tensor:
        return self.mean + torch.randn_like(self.mean)


@pytest.fixture
def vae(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A VAE one of whose layers takes samples, written in a module that has the Gaussian by its name."""
    module = ModuleType("a_hosts_regularizer")
    vars(module)[GAUSSIAN] = Gaussian
    monkeypatch.setitem(sys.modules, module.__name__, module)
    sampling = type("Regularizer", (nn.Module,), {"forward": lambda _, x: vars(module)[GAUSSIAN](x).sample()})
    sampling.__module__ = module.__name__
    return nn.Sequential(nn.Identity(), sampling())


def test_pictures_are_encoded_to_the_mean_and_the_vae_is_as_before(vae: nn.Module) -> None:
    pixels, module = torch.rand(1, 3, 8, 8), sys.modules["a_hosts_regularizer"]
    with pytest.raises(KeyError), encoding_to_the_mean(vae):
        with encoding_to_the_mean(vae):  # key frames, while a pass is sampled
            assert torch.equal(vae(pixels), pixels)
        assert torch.equal(vae(pixels), pixels)
        raise KeyError
    assert vars(module)[GAUSSIAN] is Gaussian
    assert not torch.equal(vae(pixels), pixels)


def test_what_draws_behind_an_encoded_picture_draws_what_it_would(vae: nn.Module) -> None:
    pixels, state = torch.rand(1, 3, 8, 8), torch.get_rng_state()
    vae(pixels)
    wanted = torch.rand(3)
    torch.set_rng_state(state)
    with encoding_to_the_mean(vae), encoding_to_the_mean(vae):
        vae(pixels)
    assert torch.equal(torch.rand(3), wanted)


def test_a_picture_goes_the_hosts_own_way_to_latents(vae: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    def to_samples(pixels: Tensor, method: int, model: Any) -> Tensor:
        assert model is loaded and method == 0
        return 0.5 * vae(pixels * 2 - 1)

    loaded = SimpleNamespace()
    pretend(monkeypatch, shared=SimpleNamespace(sd_model=loaded, device="cpu"))
    pretend(monkeypatch, devices=SimpleNamespace(dtype_vae=torch.float32))
    pretend(monkeypatch, sd_samplers_common=SimpleNamespace(images_tensor_to_samples=to_samples))
    monkeypatch.setattr(detect, "host", lambda: SimpleNamespace(vae=lambda: vae))
    pixels = torch.rand(1, 3, 8, 8)
    assert torch.equal(detect.encode(pixels), 0.5 * (2 * pixels - 1))


def test_the_loaded_base(host: Any) -> None:
    assert base.loaded_base() == ("sd15" if host.model.is_sd1 else "sdxl")
    host.model.is_sd1 = host.model.is_sdxl = False
    with pytest.raises(MotionError, match=r"choose an SD1\.5 or SDXL checkpoint"):
        base.loaded_base()


@pytest.mark.parametrize("nothing", [None, SimpleNamespace(cond_stage_model=None)])
def test_before_a_checkpoint_is_loaded_there_is_no_base(monkeypatch: pytest.MonkeyPatch, nothing: Any) -> None:
    pretend(monkeypatch, sd_models=SimpleNamespace(model_data=SimpleNamespace(sd_model=nothing)))
    assert base.loaded_base() is None


def test_what_a_host_lacks_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, rng=SimpleNamespace(), paths=SimpleNamespace(models_path="models"))
    base.need("paths.models_path")
    with pytest.raises(MotionError, match=r"no modules\.rng\.ImageRNG and no modules\.ui\.Button: update the WebUI"):
        base.need("paths.models_path", "rng.ImageRNG", "ui.Button")
    detect.host.cache_clear()
    with pytest.raises(MotionError, match=r"cannot make this clip here.*modules\.rng\.ImageRNG"):
        detect.host()
