"""What clips start from: fading images share one weight; noise is reused by windows; FreeInit keeps what is slow."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from motion.errors import MotionError
from motion.sampling.noise import fade, fade_weights
from motion.sampling.windows import Windows
from motion.settings.choices import FREEINIT_FILTERS, NOISES
from motion.settings.settings import Clip
from motion.techniques.freeinit import FILTERS, low_pass, reinitialize_noise
from motion.techniques.freenoise import noise_order
from motion.techniques.layered_noise import KINDS, LayeredNoise
from motion.techniques.noise_layers import LAYER_SEED, NoiseLayers
from motion.techniques.registry import techniques_of
from tests.support.small import far

FRAMES, POWERS, SCALES = st.integers(1, 64), st.floats(0.1, 10), st.floats(1, 1024)


@given(FRAMES, POWERS, SCALES, st.booleans())
def test_weights_share_one(frames: int, power: float, scale: float, to_last: bool) -> None:
    first, last = fade_weights(frames, power, scale, to_last)
    assert len(first) == len(last) == frames
    assert (first >= 0).all()
    assert (last >= 0).all()
    assert (first + last <= 1 + 1e-6).all()
    if frames > 1:
        assert (first[0], last[0]) == (1, 0)
    if to_last:
        assert (first[-1], last[-1]) == (0, 1)
    else:
        assert not last.any()


@given(FRAMES, POWERS, SCALES)
def test_the_image_fades_and_never_comes_back(frames: int, power: float, scale: float) -> None:
    first, _ = fade_weights(frames, power, scale)
    assert (first.diff() <= 0).all()


def test_the_ends_are_the_images() -> None:
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(6, 4, 2, 2, generator=draw)
    first, last = torch.randn(2, 1, 4, 2, 2, generator=draw)
    both = fade(first, noise, 1, 3, last)
    assert torch.allclose(both[0], first[0])
    assert torch.allclose(both[-1], last[0])
    one = fade(first, noise, 1, 3)
    assert torch.allclose(one[0], first[0])
    assert torch.allclose(one[3:], noise[3:])


@given(st.integers(1, 8), st.integers(0, 8), POWERS, SCALES)
def test_it_fades_over_the_frames_that_are_kept(kept: int, more: int, power: float, scale: float) -> None:
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(kept + more, 4, 2, 2, generator=draw)
    first, last = torch.randn(2, 1, 4, 2, 2, generator=draw)
    faded = fade(first, noise, power, scale, last, kept)
    assert torch.equal(faded[:kept], fade(first, noise[:kept], power, scale, last))
    assert torch.equal(faded[kept - 1 :], last.expand(more + 1, 4, 2, 2))
    without = fade(first, noise, power, scale, None, kept)
    assert torch.equal(without[:kept], fade(first, noise[:kept], power, scale))


@given(st.integers(1, 100), st.integers(1, 24), st.integers(0, 24), st.integers(0, 9))
def test_freenoise_reuses_the_first_window_and_shuffles_stretches(
    frames: int, length: int, overlap: int, seed: int
) -> None:
    windows = Windows(frames, length, overlap)
    order = noise_order("freenoise", windows, seed)
    size, hop = windows.size, windows.hop()
    assert order == noise_order("freenoise", windows, seed)
    assert order[:size] == list(range(size))
    for start in range(size, frames, hop):
        block = order[start : start + hop]
        before = order[start - size : start - size + hop]
        assert sorted(block) == sorted(before) if len(block) == len(before) else set(block) <= set(before)
    for start in range(0, frames - size + 1, hop):
        assert sorted(order[start : start + size]) == list(range(size))


def test_noise_by_name() -> None:
    windows = Windows(40, 16)
    assert noise_order("constant", windows, 1) == [0] * 40
    assert noise_order("repeated", windows, 1)[15:18] == [15, 0, 1]
    assert noise_order("independent", windows, 1) == list(range(40))
    assert noise_order("auto", windows, 1) == noise_order("freenoise", windows, 1) != noise_order("auto", windows, 2)
    assert noise_order("auto", Windows(16, 16), 1) == list(range(16))
    assert all(len(noise_order(kind, windows, 1)) == 40 for kind in NOISES)


@pytest.mark.parametrize("kind", FILTERS)
def test_filters_let_the_slow_through_and_hold_the_fast(kind: str) -> None:
    low = low_pass((16, 8, 8), kind)
    assert low[0, 0, 0] == 1
    assert low[8, 4, 4] < 1e-3
    assert ((low >= 0) & (low <= 1)).all()
    torch.testing.assert_close(low[1:], low[1:].flip(0))  # so that the result has no imaginary part
    assert (low[:9, 0, 0].diff() <= 0).all()


def test_a_box_is_cut_off_on_each_axis_by_itself() -> None:
    box, ball = low_pass((16, 16, 16), "box"), low_pass((16, 16, 16), "ideal")
    assert box[2, 2, 2] == box[0, 0, 2] == 1 and not box[0, 0, 3] and not box[3, 0, 0]
    assert ball[0, 0, 2] == 1 and not ball[2, 2, 2]
    assert (low_pass((16, 16, 16), "box", 0.25, 0.5)[4, 2, 2], box[4, 2, 2]) == (1, 0)


@pytest.mark.parametrize("kind", FREEINIT_FILTERS)
def test_a_second_drawing_begins_with_the_slow_parts_of_the_first(kind: str) -> None:
    drawn, noise, fresh = torch.randn(3, 16, 4, 8, 8, dtype=torch.float64).unbind()
    mixed = reinitialize_noise(drawn, noise, fresh, alpha=0.2, kind=kind)
    noised = 0.2**0.5 * drawn + 0.8**0.5 * noise
    assert far(mixed.mean((0, 2, 3)), noised.mean((0, 2, 3))) <= 1e-9
    assert far(reinitialize_noise(drawn, noise, noised, 0.2, kind), noised) <= 1e-9
    assert (mixed - fresh).square().mean() < (mixed - noised).square().mean()  # most frequencies are high


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("kind", ["mixed", "progressive"])
def test_layered_noise_keeps_its_variance_and_shares_what_was_asked_for(kind: str, share: float) -> None:
    own = torch.randn(8, 4, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = LayeredNoise(Clip(noise=kind, noise_share=share)).begin(own, Windows(8), seed=1)
    together = torch.corrcoef(noise.flatten(1))
    assert (noise.var((1, 2, 3)) - 1).abs().max() < 0.05
    away = torch.arange(8)
    apart = (away[:, None] - away).abs()
    wanted = (share**0.5) ** apart if kind == "progressive" else torch.where(apart > 0, share, 1.0)
    assert (together - wanted).abs().max() < 0.05
    if not share:
        assert torch.equal(noise, own)


def test_empty_noise_is_none() -> None:
    assert not LayeredNoise(Clip(noise="empty")).begin(torch.randn(2, 4, 2, 2), Windows(2), 0).any()


def test_layers_are_summed_to_the_strength_of_one() -> None:
    own = torch.randn(8, 4, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    layered = NoiseLayers(Clip(noise_layers="constant:2, independent:1")).begin(own, Windows(8), seed=1)
    assert (layered.var((1, 2, 3)) - 1).abs().max() < 0.1
    together = torch.corrcoef(layered.flatten(1))[~torch.eye(8, dtype=torch.bool)]
    assert (together - 4 / 6).abs().max() < 0.05
    first, second = (
        torch.randn(own.shape, generator=torch.Generator().manual_seed(1 + number * LAYER_SEED)) for number in (1, 2)
    )
    assert far(layered, (own + 2 * first[:1] + second) / 6**0.5) <= 1e-6


def test_empty_noise_leaves_the_layers_alone() -> None:
    own = torch.randn(4, 4, 8, 8)
    alone, beside = (Clip(noise=kind, noise_layers="repeated:0.5, empty:3") for kind in ("empty", "independent"))
    layer = NoiseLayers(alone).begin(own, Windows(4, 2), seed=1)
    assert torch.equal(layer[:2], layer[2:]) and not torch.equal(layer[0], layer[1])
    both = NoiseLayers(beside).begin(own, Windows(4, 2), seed=1)
    assert far(both, (own + 0.5 * layer) / 1.25**0.5) <= 1e-6
    assert not techniques_of(Clip(noise_layers="constant:0")).members[1:]


def test_a_layer_is_of_a_known_kind() -> None:
    with pytest.raises(MotionError, match=r"noise layers is .*blue.*: give name:weight.*of independent, freenoise"):
        Clip(noise_layers="blue:1")


@pytest.mark.parametrize("kind", NOISES)
def test_one_technique_makes_the_noise(kind: str) -> None:
    [maker] = [type(member).__name__ for member in techniques_of(Clip(noise=kind)).members] or [None]
    assert maker == (None if kind == "independent" else "LayeredNoise" if kind in KINDS else "SharedNoise")


def test_the_first_images_weight_is_a_curve() -> None:
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(4, 4, 2, 2, generator=draw)
    first = torch.randn(1, 4, 2, 2, generator=draw)
    faded = fade(first, noise, 1, math.inf, None, 3, "0: 1, -1: 0.5")
    for frame, weight in enumerate((1, 0.75, 0.5, 0.5)):
        assert torch.allclose(faded[frame], weight * first[0] + (1 - weight) * noise[frame])
