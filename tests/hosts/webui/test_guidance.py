"""Techniques where the WebUIs combine their predictions: in stand-ins with the hosts' own formulas."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from motion.errors import MotionError
from motion.hosts.regions import Regions
from motion.hosts.webui.backends import a1111_guidance, forge_guidance
from motion.hosts.webui.guidance import Guidance, check_samplers
from motion.models.motion.architecture import SCHEDULES
from motion.sampling.arrangement import Arrangement
from motion.sampling.windows import Windows
from motion.settings.tab import Tab
from motion.techniques.registry import techniques_of
from motion.techniques.technique import Moment, Pictures, Technique, Techniques
from tests.support.small import far

FRAMES = 4
ALPHAS = SCHEDULES["scaled_linear"].alphas_cumprod().double()
TEXTS = {"cond": 0.5, "second": -0.3, "uncond": 0.1}


def latents(seed: int = 0) -> Tensor:
    return torch.randn(FRAMES, 4, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Network(nn.Module):
    """What the hosts wrap a UNet in. It moves by its neighbours unless the temporal layers stand aside."""

    def __init__(self, arrangement: Arrangement) -> None:
        super().__init__()
        self.arrangement = arrangement

    def forward(self, x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        assert len(x) >= self.arrangement.frames * self.arrangement.prompts and not len(x) % self.arrangement.frames
        told = cond["c_crossattn"][0].view(-1, 1, 1, 1)
        moved = 0 if self.arrangement.still else 0.2 * self.neighbours(x)
        return 0.3 * x + moved + told * x

    def neighbours(self, x: Tensor) -> Tensor:
        """Each clip of the batch backwards, wherever the frames of its prompts lie."""
        rows = self.arrangement.rows(len(x), tuple(range(FRAMES)))
        moved = torch.empty_like(x)
        moved[rows] = x[rows].unflatten(0, (-1, FRAMES)).flip(1).flatten(0, 1)
        return moved


class Denoiser(nn.Module):
    """A1111's, as far as guidance goes: AND repeats the rows of a frame, and the negative prompt may be skipped."""

    cond_scale_miltiplier = 1.0
    step = 0

    def __init__(self, arrangement: Arrangement, weights: Sequence[float] = (1.0,), skips: bool = False) -> None:
        super().__init__()
        self.inner_model = Network(arrangement)
        self.weights, self.skips = weights, skips

    def combine_denoised(self, x_out: Tensor, conds_list: Any, uncond: Tensor, cond_scale: float) -> Tensor:
        denoised_uncond = x_out[-uncond.shape[0] :]
        denoised = torch.clone(denoised_uncond)
        for i, conds in enumerate(conds_list):
            for cond_index, weight in conds:
                denoised[i] += (x_out[cond_index] - denoised_uncond[i]) * (weight * cond_scale)
        return denoised

    def conds(self) -> tuple[list[list[tuple[int, float]]], Tensor]:
        each = len(self.weights)
        listed = [[(frame * each + n, weight) for n, weight in enumerate(self.weights)] for frame in range(FRAMES)]
        told = torch.tensor([TEXTS["cond"], TEXTS["second"]][:each], dtype=torch.float64)
        return listed, told.repeat(FRAMES)

    def forward(
        self,
        x: Tensor,
        sigma: Tensor,
        uncond: Tensor,
        cond: Any,
        cond_scale: float,
        s_min_uncond: float,
        image_cond: Any,
    ) -> Tensor:
        listed, tensor = self.conds()
        rows = [frame for frame, mine in enumerate(listed) for _ in mine]
        if self.skips:
            out = self.inner_model(x[rows], sigma[rows], cond={"c_crossattn": [tensor], "c_concat": [image_cond[rows]]})
            fake = out[[mine[0][0] for mine in listed]]
            return self.combine_denoised(torch.cat([out, fake]), listed, uncond, 1.0)
        told = {"c_crossattn": [torch.cat([tensor, uncond])], "c_concat": [torch.cat([image_cond[rows], image_cond])]}
        out = self.inner_model(torch.cat([x[rows], x]), torch.cat([sigma[rows], sigma]), cond=told)
        return self.combine_denoised(out, listed, uncond, cond_scale)


def asked(cfg: float) -> dict[str, Any]:
    uncond = torch.full((FRAMES,), TEXTS["uncond"], dtype=torch.float64)
    return {
        "uncond": uncond,
        "cond": None,
        "cond_scale": cfg,
        "s_min_uncond": 0.0,
        "image_cond": torch.zeros(FRAMES, 1),
    }


def denoised(
    denoiser: Denoiser,
    settings: dict[str, Any],
    cfg: float = 7.0,
    sigma: float = 2.0,
    given: Any = None,
    regions: Regions | None = None,
) -> Tensor:
    arrangement = denoiser.inner_model.arrangement
    arrangement.prompts = len(denoiser.weights)
    guidance = Guidance(techniques_of(Tab(**settings)), arrangement, FRAMES, regions=regions)
    guidance.given = given or {}
    x = latents()
    with ExitStack() as undo:
        if guidance.acts:
            a1111_guidance.guide(denoiser, guidance, undo)
        found: Tensor = denoiser(x, torch.full((FRAMES,), sigma, dtype=torch.float64), **asked(cfg))
    assert "combine_denoised" not in vars(denoiser)
    assert not denoiser._forward_pre_hooks and not denoiser.inner_model._forward_pre_hooks
    return found


@pytest.fixture
def arrangement() -> Arrangement:
    return Arrangement(Windows(FRAMES))


@pytest.fixture(autouse=True)
def parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's, of which only the prompts of one step are asked."""
    made = SimpleNamespace(
        reconstruct_multicond_batch=lambda cond, step: Denoiser(Arrangement(Windows(FRAMES))).conds()
    )
    monkeypatch.setattr(a1111_guidance, "host_module", lambda name: made)


@pytest.mark.parametrize("weights", [(1.0,), (1.2, 0.4)])
def test_a1111_a_constant_ramp_is_bit_equal(arrangement: Arrangement, weights: Sequence[float]) -> None:
    denoiser = Denoiser(arrangement, weights)
    plain = denoised(denoiser, {}, cfg=5.0)
    assert torch.equal(denoised(denoiser, {"cfg_first": 5.0, "cfg_last": 5.0}, cfg=7.0), plain)
    rising = denoised(denoiser, {"cfg_last": 10.0}, cfg=4.0)
    for frame, scale in enumerate((4.0, 6.0, 8.0, 10.0)):
        assert far(rising[frame], denoised(denoiser, {}, cfg=scale)[frame]) <= 1e-12


def test_a1111_skipped_negative_prompts_are_not_there(arrangement: Arrangement) -> None:
    """A ramp does nothing then, and temporal guidance is of the prompt."""
    denoiser = Denoiser(arrangement, skips=True)
    plain = denoised(denoiser, {})
    assert torch.equal(denoised(denoiser, {"cfg_last": 10.0}), plain)
    still = (0.3 + TEXTS["cond"]) * latents()
    assert far(denoised(denoiser, {"temporal_guidance": 0.0}), still) <= 1e-12


@pytest.mark.parametrize("weights", [(1.0,), (1.2, 0.4)])
@pytest.mark.parametrize("of_noise", [False, True])
def test_a1111_temporal_guidance_in_either_kind_of_samplers(
    arrangement: Arrangement, weights: Sequence[float], of_noise: bool
) -> None:
    """DDIM's denoiser predicts noise; the formula is linear, so it is the same for that."""
    denoiser = Denoiser(arrangement, weights)
    if of_noise:
        denoiser.alphas = ALPHAS
    plain = denoised(denoiser, {}, sigma=500.0)
    moving = (0.3 + TEXTS["uncond"]) * latents() + 0.2 * latents().flip(0)
    still = (0.3 + TEXTS["uncond"]) * latents()
    found = denoised(denoiser, {"temporal_guidance": 1.5}, sigma=500.0)
    assert far(found, plain + 0.5 * (moving - still)) <= 1e-9
    assert (arrangement.prompts, arrangement.still) == (len(weights), False)


@pytest.mark.parametrize("of_noise", [False, True])
def test_a1111_held_frames_are_what_the_sampler_makes_of_its_own_latents(
    arrangement: Arrangement, of_noise: bool
) -> None:
    denoiser, held, t = Denoiser(arrangement), latents(3)[0], 500
    if of_noise:
        denoiser.alphas = ALPHAS
    found = denoised(denoiser, {"hold_keys": "noised"}, sigma=float(t), given={2: held})[2]
    alpha = ALPHAS[t]
    made = (latents()[2] - (1 - alpha).sqrt() * found) / alpha.sqrt() if of_noise else found
    assert far(made, held) <= 1e-9


def patcher(guidance: Guidance) -> Any:
    """The Forge family's, of which two functions are asked."""
    found = SimpleNamespace(modifiers=[], after=[])
    found.add_conditioning_modifier = found.modifiers.append
    found.set_model_sampler_post_cfg_function = found.after.append
    forge_guidance.guide(found, guidance)
    return found


def forged(
    settings: dict[str, Any],
    cfg: float,
    arrangement: Arrangement,
    strength: float = 1.0,
    given: Any = None,
    second: float = 0.0,
    regions: Regions | None = None,
) -> Tensor:
    """`sampling_function` of the family: at CFG 1 the negative prompt's prediction is zeros."""
    guidance = Guidance(techniques_of(Tab(**settings)), arrangement, FRAMES, regions=regions)
    guidance.given = given or {}
    x, sigma = latents(), torch.full((FRAMES,), 2.0, dtype=torch.float64)
    cond, uncond = [{"text": "cond", "strength": strength}], [{"text": "uncond"}]
    cond += [{"text": "second", "strength": second}] * bool(second)
    modifiers, after = ([], []) if not guidance.acts else (lambda p: (p.modifiers, p.after))(patcher(guidance))
    model, options = Network(arrangement), {}
    for modify in modifiers:
        model, x, sigma, uncond, cond, cfg, options, _ = modify(model, x, sigma, uncond, cond, cfg, options, 1)
    cond_pred, uncond_pred = calc_cond_uncond_batch(
        model, cond, None if math.isclose(cfg, 1) else uncond, x, sigma, options
    )
    result = uncond_pred + (cond_pred - uncond_pred) * cfg
    if not math.isclose(strength + second, 1.0):
        result = uncond_pred + (cond_pred - uncond_pred) * cfg * (strength + second)
    args = {
        **{"cond": cond, "uncond": uncond, "model": model, "sigma": sigma, "model_options": options, "input": x},
        **{"cond_denoised": cond_pred, "uncond_denoised": uncond_pred},
    }
    for edit in after:
        result = edit({"denoised": result, **args})
    return result


def calc_cond_uncond_batch(model: Any, cond: Any, uncond: Any, x: Tensor, sigma: Tensor, options: Any) -> Any:
    def predicted(parts: Any) -> Tensor:
        found = [
            (part, model(x, sigma, {"c_crossattn": [torch.full((FRAMES,), TEXTS[part["text"]], dtype=torch.float64)]}))
            for part in parts or ()
        ]
        if len(found) < 2:
            return found[0][1] if found else torch.zeros_like(x)
        shares = [part["strength"] * part.get("mask", torch.ones_like(x[:, 0]))[:, None] for part, _ in found]
        return sum(share * one for share, (_, one) in zip(shares, found, strict=True)) / (sum(shares) + 1e-37)

    return predicted(cond), predicted(uncond)


@pytest.fixture(params=forge_guidance.SAMPLERS, ids=lambda pair: pair[0])
def family(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tensor]:
    package, path = request.param
    module = ModuleType(path)
    module.calc_cond_uncond_batch = calc_cond_uncond_batch  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, path, module)
    monkeypatch.setattr(forge_guidance, "find_spec", lambda name: True if name == package else None)
    return forged


@pytest.mark.parametrize("strength", [1.0, 1.6])
def test_forge_a_ramp_is_added_and_a_constant_one_is_bit_equal(
    family: Callable[..., Tensor], arrangement: Arrangement, strength: float
) -> None:
    plain = family({}, 5.0, arrangement, strength)
    assert torch.equal(family({"cfg_first": 5.0, "cfg_last": 5.0}, 5.0, arrangement, strength), plain)
    rising = family({"cfg_last": 10.0}, 4.0, arrangement, strength)
    for frame, scale in enumerate((4.0, 6.0, 8.0, 10.0)):
        assert far(rising[frame], family({}, scale, arrangement, strength)[frame]) <= 1e-6


def test_forge_temporal_guidance_is_of_the_negative_prompt_where_there_is_one(
    family: Callable[..., Tensor], arrangement: Arrangement
) -> None:
    moving = 0.2 * latents().flip(0)
    found = family({"temporal_guidance": 1.5}, 5.0, arrangement)
    assert far(found, family({}, 5.0, arrangement) + 0.5 * moving) <= 1e-12
    alone = family({"temporal_guidance": 0.0}, 1.0, arrangement)
    assert far(alone, (0.3 + TEXTS["cond"]) * latents()) <= 1e-12
    assert not arrangement.still


def test_both_families_agree(family: Callable[..., Tensor], arrangement: Arrangement) -> None:
    settings = {"temporal_guidance": 1.3, "rescale_cfg": 0.7, "threshold": 0.9, "cfg_last": 9.0, "hold_keys": "noised"}
    given = {1: latents(4)[0]}
    mine = denoised(Denoiser(arrangement), settings, 5.0, given=given)
    assert far(family(settings, 5.0, arrangement, given=given), mine) <= 1e-6


@pytest.fixture
def regions(tmp_path: Path) -> Regions:
    """The second part counts in the left third, half in the middle one, and in the last two frames on the right."""
    for frame in range(FRAMES):
        columns = [255, 128, 255 * (frame > 1)]
        Image.fromarray(np.uint8(columns).repeat(8)[None].repeat(24, 0)).save(tmp_path / f"{frame}.png")
    return Regions.read([None, tmp_path], FRAMES)


def test_a_part_counts_where_its_mask_is_white(
    family: Callable[..., Tensor], arrangement: Arrangement, regions: Regions
) -> None:
    found = denoised(Denoiser(arrangement, (1.0, 0.8)), {}, regions=regions)
    for share, places in ((1, found[:, :, :, 0]), (128 / 255, found[:, :, :, 1]), (0, found[:2, :, :, 2])):
        column = {1: 0, 0: 2}.get(share, 1)
        alone = denoised(Denoiser(arrangement, (1.0, 0.8 * share)), {})[: len(places), :, :, column]
        assert far(places, alone) <= 1e-6
    settings = {"cfg_last": 9.0, "rescale_cfg": 0.5}
    both = denoised(Denoiser(arrangement, (1.0, 0.8)), settings, 5.0, regions=regions)
    arrangement.prompts = 1
    assert far(family(settings, 5.0, arrangement, second=0.8, regions=regions), both) <= 1e-6


class Watching(Technique):
    """Notes each moment that it is told."""

    needs_schedule = True

    def __init__(self) -> None:
        self.moments: list[Moment] = []

    def scales(self, moment: Moment, cfg: float) -> Sequence[float]:
        self.moments.append(moment)
        return super().scales(moment, cfg)


@pytest.mark.parametrize(
    "schedule", [{"sigmas": torch.tensor([8.0, 4.0, 2.0, 1.0, 0.0])}, {"timesteps": torch.tensor([1, 251, 501, 751])}]
)
def test_the_step_is_where_the_noise_level_stands_in_the_samplers_schedule(schedule: dict[str, Tensor]) -> None:
    """The level that follows is known as well, of DDIM in k-diffusion's units."""
    watching = Watching()
    guidance = Guidance(Techniques([watching]), Arrangement(Windows(FRAMES, 2)), FRAMES)

    levels = sorted(map(float, next(iter(schedule.values()))), reverse=True)

    def function(model: nn.Module, x: Tensor, extra_args: Any = None, **kwargs: Any) -> None:
        for level in levels[:-1]:
            model(x, torch.full((FRAMES,), level), cond=None)

    model = nn.Module()
    model.forward = lambda x, sigma, cond: guidance.scales(8.0)  # type: ignore[method-assign, misc]
    sampler = SimpleNamespace(func=function, model_wrap_cfg=model)
    with ExitStack() as undo:
        guidance.watch(sampler, ALPHAS, undo)
        sampler.func(model, latents(), **schedule)
    assert sampler.func is function
    steps = len(levels) - 1
    assert [(moment.step, moment.steps, moment.window) for moment in watching.moments] == [
        (step, steps, 2) for step in range(steps)
    ]
    sigmas = ((1 - ALPHAS) / ALPHAS).sqrt()
    wanted = [float(sigmas[int(level)]) if "timesteps" in schedule else level for level in levels[1:]]
    assert [moment.sigma_next for moment in watching.moments] == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("times", [False, True])
def test_smoothed_steps_end_at_what_the_hosts_autoencoder_makes_of_frames(times: bool) -> None:
    """By Euler's step, which DDIM's is too in these units, and only in the two steps that were asked for."""
    sigmas = ((1 - ALPHAS) / ALPHAS).sqrt()
    schedule = (
        {"timesteps": torch.tensor([1, 251, 501, 751, 951])} if times else {"sigmas": sigmas[[951, 751, 501, 251, 1]]}
    )
    pictures = Pictures(
        lambda x0: torch.full_like(x0[:, :3], 0.5), lambda shown: 4 * shown[:, :1].expand(-1, 4, -1, -1)
    )
    guidance = Guidance(techniques_of(Tab(smoothing=0.5)), Arrangement(Windows(FRAMES)), FRAMES, pictures)
    ended: list[Tensor] = []

    def forward(_: Tensor, level: Tensor, cond: None) -> None:
        sigma = (sigmas[level.long()] if times else level)[:, None, None, None]
        x, x0 = sigma * latents(1), latents(2)
        told = guidance.edit(x, sigma, x0, {"cond": x0}, lambda text: x0)
        following = float(sigmas[[751, 501, 251, 1][len(ended)]])
        ended.append((told + following / sigma * (x - told)) - following / sigma * (x - x0))  # less the noise it keeps

    def function(model: nn.Module, **kwargs: Any) -> None:
        for level in sorted(map(float, next(iter(schedule.values()))), reverse=True)[:-1]:
            model(latents(), torch.full((FRAMES,), level, dtype=torch.float64), cond=None)

    model = nn.Module()
    model.forward = forward  # type: ignore[method-assign, assignment]
    sampler = SimpleNamespace(func=function, model_wrap_cfg=model)
    with ExitStack() as undo:
        guidance.watch(sampler, ALPHAS, undo)
        sampler.func(model, **schedule)
    assert all(far(left, latents(2)) <= 1e-12 for left in ended[:2])
    assert all(far(smoothed, torch.full_like(smoothed, 2.0)) <= 1 / 255 for smoothed in ended[2:])  # pictures of bytes


def test_samplers_without_fixed_steps_are_refused_by_name() -> None:
    oscillating = techniques_of(Tab(cfg_low=2.0))
    with pytest.raises(MotionError, match=r"DPM adaptive has no fixed steps.*Oscillating guidance"):
        check_samplers(oscillating, ["DPM adaptive", None])
    check_samplers(oscillating, ["Euler a", None])
    check_samplers(techniques_of(Tab(cfg_last=2.0)), ["DPM adaptive"])
