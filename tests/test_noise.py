"""Fading initial images: weights that share one, ends that belong to their images."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from motion.noise import fade, fade_weights

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
