"""What techniques make of a step's predictions: the formulas' numbers, through the parts that every host calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from motion.errors import MotionError
from motion.settings.guidance import Guidance
from motion.techniques.oscillating import oscillating_scales
from motion.techniques.registry import KINDS, check, techniques_of
from motion.techniques.replacement import CLEAN
from motion.techniques.technique import Input, Moment, Pass, Plan, Step, Technique, Techniques, from_velocity, velocity
from motion.techniques.thresholding import quantile, threshold
from tests.conftest import ORACLE
from tests.support.small import far

FRAMES = 4


@dataclass(frozen=True)
class Settings(Guidance):
    """What a clip asks for, nothing else than guidance."""

    noise: str = "independent"
    noise_layers: tuple[Any, ...] = ()
    freeinit: int = 1
    zero_shot: bool = False


def of(**settings: Any) -> Techniques:
    return techniques_of(Settings(**settings))


@pytest.fixture(scope="module")
def numbers() -> dict[str, Tensor]:
    return load_file(ORACLE / "techniques" / "guidance_f64.safetensors")


def step(
    x0: dict[str, Tensor],
    predict: Callable[[Pass], Tensor] = lambda further: torch.zeros(0),
    moment: Moment | None = None,
    **others: Any,
) -> Step:
    """A step of clips ``[(clips frames), c, h, w]`` at a noise level of 2."""
    like = x0["cond"]
    x = like + 2 * torch.randn(like.shape, generator=torch.Generator().manual_seed(5), dtype=like.dtype)
    sigma = like.new_full((len(like), 1, 1, 1), 2.0)
    return Step(moment or Moment(FRAMES, FRAMES), x, sigma, x0, predict, others.get("given", {}))


def latents(clips: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(clips * FRAMES, 4, 3, 3, generator=generator, dtype=torch.float64)


def test_without_a_wish_there_is_nothing() -> None:
    assert of().members == []
    assert of(cfg_first=0, temporal_guidance=1, rescale_cfg=0, threshold=0, cfg_low=0, hold_keys="off").members == []


def test_every_technique_says_what_it_is() -> None:
    for kind in KINDS:
        assert issubclass(kind, Technique)
        assert kind.label and kind.paper.startswith(("arXiv:", "github.com/"))


@pytest.mark.parametrize(("weight", "cfg"), [(0.0, 7.5), (0.5, 7.5), (1.5, 4.0)])
def test_temporal_guidance_is_gen_1s(numbers: dict[str, Tensor], weight: float, cfg: float) -> None:
    still, moving, told = (numbers[f"gen1.{name}"] for name in ("image_uncond", "video_uncond", "video_cond"))
    asked: list[Pass] = []

    def predict(further: Pass) -> Tensor:
        asked.append(further)
        return still

    found = of(temporal_guidance=weight).edit(
        step({"cond": told, "uncond": moving}, predict), moving + cfg * (told - moving)
    )
    assert far(found, numbers[f"gen1.wt{weight:g}_w{cfg:g}"]) <= 1e-12
    assert asked == [Pass("uncond", motion=False)]


def test_temporal_guidance_without_a_negative_prompt_is_of_the_prompt() -> None:
    cond, still = latents(), latents(seed=1)
    asked: list[Pass] = []
    found = of(temporal_guidance=1.5).edit(step({"cond": cond}, lambda further: asked.append(further) or still), cond)  # type: ignore[func-returns-value]
    assert far(found, still + 1.5 * (cond - still)) <= 1e-12
    assert asked == [Pass("cond", motion=False)]


@pytest.mark.parametrize("number", [0, 1])
def test_oscillating_scales_are_the_traced_ones(numbers: dict[str, Tensor], number: int) -> None:
    steps, high, low, start = numbers[f"osc{number}.params"].tolist()
    found = oscillating_scales(int(steps), high, low, int(start))
    assert found == numbers[f"osc{number}.weights"].tolist()
    later = oscillating_scales(int(steps), high, low, int(start) + 1)
    assert later == numbers[f"osc{number}.weights_high_first"].tolist()


@pytest.mark.parametrize("share", [0.5, 0.9, 0.995])
def test_thresholds_are_the_traced_ones(numbers: dict[str, Tensor], share: float) -> None:
    x0 = numbers["thr.x0"]
    assert far(threshold(x0, share), numbers[f"thr.p{share:g}.y"]) <= 1e-12
    clips = x0.flatten(0, 1)
    moment = Moment(x0.shape[1], x0.shape[1])
    found = of(threshold=share, threshold_range=1).edit(step({"cond": clips}, moment=moment), clips)
    assert far(found, numbers[f"thr.p{share:g}.y"].flatten(0, 1)) <= 1e-12


@given(st.integers(1, 50), st.floats(0, 1))
def test_the_quantile_is_torchs(size: int, share: float) -> None:
    x = torch.randn(3, size, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    torch.testing.assert_close(quantile(x, share), torch.quantile(x, share, dim=1, keepdim=True))


def test_without_a_range_the_clip_is_drawn_into_that_of_the_unguided_prediction() -> None:
    cond = latents(2)
    technique = of(threshold=0.9)
    for factor in (0.5, 1, 3):
        found = technique.edit(step({"cond": cond}), factor * cond)
        spread = quantile(step({"cond": cond}).clips(cond).abs(), 0.9)
        reached = step({"cond": cond}).clips(found).abs().flatten(1).max(1, keepdim=True)[0]
        assert (reached <= spread * (1 + 1e-12)).all() or factor < 1
        if factor < 1:
            assert far(found, (factor * cond)) <= 1e-12 or (found.abs() <= (factor * cond).abs() + 1e-12).all()


def test_a_run_with_both_is_the_traced_one(numbers: dict[str, Tensor]) -> None:
    steps, high, low, start, share = numbers["run.params"].tolist()
    alpha, sigma, mix = numbers["run.alpha"], numbers["run.sigma"], numbers["run.M"]
    techniques = of(threshold=share, threshold_range=1, cfg_low=low, cfg_low_start=start / steps)
    z = numbers["run.z_init"]
    for number in range(int(steps)):
        a, s = alpha[number], sigma[number]
        v = torch.einsum("ij,jchw->ichw", mix, z)
        uncond, cond = a * z - s * v, a * z - s * (v + numbers["run.text"])
        moment = Moment(FRAMES, FRAMES, number, int(steps))
        scale = z.new_tensor(techniques.scales(moment, high))[:, None, None, None]
        assert scale.flatten().tolist() == [float(numbers[f"run.step{number}.w"])] * FRAMES
        guided = uncond + scale * (cond - uncond)
        assert far(guided, numbers[f"run.step{number}.x_guided"]) <= 1e-12
        level = (s / a).expand(FRAMES, 1, 1, 1)
        at = Step(moment, z / a, level, {"cond": cond, "uncond": uncond}, lambda further: torch.zeros(0), {})
        x = techniques.edit(at, guided)
        assert far(x, numbers[f"run.step{number}.x"]) <= 1e-12
        z = alpha[number + 1] * x + sigma[number + 1] * (z - a * x) / s
        assert far(z, numbers[f"run.step{number}.z_next"]) <= 1e-12
    assert far(z, numbers["run.result"]) <= 1e-12


def test_a_ramp_is_a_straight_line_over_the_kept_frames() -> None:
    assert of(cfg_first=1, cfg_last=3).scales(Moment(6, 5), 8) == [1, 1.5, 2, 2.5, 3, 3]
    assert of(cfg_last=10).scales(Moment(3, 3), 8) == [8, 9, 10]
    assert of(cfg_first=2).scales(Moment(1, 1), 8) == [2]


@given(st.floats(1, 100), st.integers(1, 40))
def test_a_constant_ramp_is_the_constant(cfg: float, frames: int) -> None:
    assert of(cfg_first=cfg, cfg_last=cfg).scales(Moment(frames, frames), 8) == [cfg] * frames


def test_rescaled_clips_have_the_spread_of_unguided_ones() -> None:
    """Of velocities, each clip with one factor for all of its frames."""
    cond, uncond = latents(2), latents(2, seed=1)
    at = step({"cond": cond, "uncond": uncond})
    guided = uncond + 8 * (cond - uncond)
    rescaled = of(rescale_cfg=1).edit(at, guided)
    factors = at.clips(velocity(at.x, at.sigma, rescaled)) / at.clips(velocity(at.x, at.sigma, guided))
    for clip, factor in enumerate(factors):
        assert torch.allclose(factor, factor.flatten()[0].expand_as(factor), rtol=1e-9)
        wanted, found = (at.clips(velocity(at.x, at.sigma, x0))[clip].std() for x0 in (cond, rescaled))
        assert abs(found / wanted - 1) <= 1e-9
    half = of(rescale_cfg=0.5).edit(at, guided)
    assert (
        far(velocity(at.x, at.sigma, half), (velocity(at.x, at.sigma, guided) + velocity(at.x, at.sigma, rescaled)) / 2)
        <= 1e-9
    )
    assert far(from_velocity(at.x, at.sigma, velocity(at.x, at.sigma, guided)), guided) <= 1e-12


@pytest.mark.parametrize("hold", ["noised", "clean"])
def test_held_frames_are_what_is_given_after_everything_else(hold: str) -> None:
    cond, held = latents(2), latents(seed=3)[0].float()
    techniques = of(hold_keys=hold, rescale_cfg=0.7, threshold=0.9)
    found = techniques.edit(step({"cond": cond}, given={1: held}), 5 * cond)
    clips = found.reshape(2, FRAMES, *held.shape)
    assert all(torch.equal(clip[1], held.double()) for clip in clips)
    assert far(clips[:, 2], cond.reshape(clips.shape)[:, 2]) > 0
    assert techniques.finish(1, "drawn", "given") == "given"


def test_clean_frames_are_seen_at_their_own_time_wherever_their_rows_are() -> None:
    x, t = latents(), torch.full((FRAMES,), 900)
    held = latents(seed=3)[0]
    call = Input(x, t, [3, 1, 0, 1], {1: held})
    seen = of(hold_keys="clean").see(call)
    assert seen.t.tolist() == [900, CLEAN, 900, CLEAN]
    assert torch.equal(seen.x[1], held) and torch.equal(seen.x[3], held)
    assert torch.equal(seen.x[[0, 2]], x[[0, 2]]) and torch.equal(t, torch.full((FRAMES,), 900))
    assert of(hold_keys="noised").have("see") == []


@pytest.mark.parametrize(
    ("settings", "plan", "sentence"),
    [
        ({"cfg_last": 3}, Plan(1.0), "CFG scale is 1"),
        ({"cfg_low": 2}, Plan(1.0), "CFG scale is 1.*Oscillating guidance"),
        ({"rescale_cfg": 0.7}, Plan(1.0), "CFG scale is 1"),
        ({"cfg_last": 3, "cfg_low": 2}, Plan(8.0), "CFG over frames and Oscillating guidance both"),
        ({"hold_keys": "clean"}, Plan(8.0), "no|none"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], plan: Plan, sentence: str) -> None:
    asked = Settings(**settings)
    with pytest.raises(MotionError, match=sentence):
        check(techniques_of(asked), plan)
    check(of(), plan)


def test_a_cfg_curve_is_the_constant_of_each_frame_and_each_step() -> None:
    techniques = of(cfg_curve="0: 8, 3: 2 * @0: 1, @1: 0.5")
    assert techniques.ask("needs_schedule") and not of(cfg_curve="0: 8, 3: 2").ask("needs_schedule")
    assert techniques.scales(Moment(FRAMES, FRAMES, 0, 5), 7.0) == [8, 6, 4, 2]
    assert techniques.scales(Moment(FRAMES + 2, FRAMES, 4, 5), 7.0) == [4, 3, 2, 1, 1, 1]
    with pytest.raises(MotionError, match="CFG curve off"):
        check(techniques, Plan(1.0))
    with pytest.raises(MotionError, match="both set the CFG scale"):
        check(of(cfg_curve=5.0, cfg_last=3.0), Plan(8.0))
