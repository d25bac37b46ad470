"""The condition: key frames with their mask, zeros elsewhere."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sparsectrl
from motion.errors import MotionError
from motion.sampling.animation import attach_windows
from motion.sampling.arrangement import Arrangement
from motion.sampling.windows import Windows
from sparsectrl.conditioning import key_frames, mask_condition
from sparsectrl.effect import Influence
from tests.support import small


def test_images_stand_at_their_frames_and_nothing_elsewhere() -> None:
    first, last = torch.randn(2, 4, 3, 5).half()
    condition = sparsectrl.condition({0: first, -1: last}, frames=6)
    assert condition.shape == (6, 5, 3, 5) and condition.dtype == torch.float16
    assert torch.equal(condition[0, :4], first) and torch.equal(condition[5, :4], last)
    assert (condition[[0, 5], 4] == 1).all()
    assert not condition[1:5].any()
    assert key_frames(condition) == [0, 5]


def test_strength_scales_image_and_mask_together() -> None:
    image = torch.randn(4, 3, 5)
    condition = sparsectrl.condition({1: image, 2: image, 3: image}, 4, {2: 0.5, 3: 0})
    assert torch.equal(condition[2], 0.5 * condition[1])
    assert key_frames(condition) == [1, 2]
    assert torch.equal(sparsectrl.condition({1: image}, 4, 0.5)[1], condition[2])


def test_the_mask_may_have_a_value_of_its_own() -> None:
    image = torch.randn(4, 3, 5)
    condition = sparsectrl.condition({1: image}, 4, 0.5, mask=3)
    assert torch.equal(condition[1, :4], 0.5 * image)
    assert (condition[1, 4] == 1.5).all() and key_frames(condition) == [1]


def test_without_images_there_is_no_key() -> None:
    condition = sparsectrl.condition({}, frames=6)
    assert len(condition) == 6 and key_frames(condition) == []


def test_outside_of_the_mask_all_is_zero() -> None:
    condition = sparsectrl.condition({0: torch.ones(4, 2, 2)}, frames=2)
    condition[1, :4] = torch.nan
    condition[0, 4, 0] = 0
    clean = mask_condition(condition)
    assert not clean[1].any() and not clean[0, :, 0].any() and (clean[0, :, 1] == 1).all()


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({0: (4, 2, 2), 1: (4, 2, 3)}, "key image of frame 1 is [4, 2, 3] and that of frame 0 [4, 2, 2]"),
        ({0: (2, 2)}, "key image of frame 0 is [2, 2]"),
        ({2: (4, 2, 2)}, "key frame 2 is out of range: the clip has frames 0 to 1"),
        ({1: (4, 2, 2), -1: (4, 2, 2)}, "key frame 1 and -1 are the same"),
    ],
)
def test_what_is_refused_says_which(shapes: dict[int, tuple[int, ...]], words: str) -> None:
    with pytest.raises(MotionError) as caught:
        sparsectrl.condition({frame: torch.zeros(shape) for frame, shape in shapes.items()}, frames=2)
    assert words in str(caught.value)


@pytest.mark.parametrize("engine", ["denoiser", "attention"])
def test_a_key_counts_in_each_step_as_its_curve_says(unet: nn.Module, engine: str, inference: None) -> None:
    precise, encoder, frames = copy.deepcopy(unet).double(), small.random_encoder(), 6
    images = {0: torch.randn(4, 8, 16).double(), 5: torch.randn(4, 8, 16).double()}

    def drawn(time: float, strength: float = 1.0, **curves: Any) -> tuple[Tensor, int]:
        condition = sparsectrl.condition(images, frames, {5: strength}, mask=0.7)
        arrangement, how = Arrangement(Windows(frames, 4, 2, engine=engine)), Influence(frames=frames, **curves)
        x, _, text = small.batch(frames)
        with (
            attach_windows(precise, arrangement),
            sparsectrl.attach(precise, encoder, condition, frames, influence=how, arrangement=arrangement) as effect,
        ):
            return small.run(precise, (x, torch.full((len(x),), time), text)), effect.passes

    curve = {5: "@0: 1, @1: 0.2"}
    for time, strength in ((999.0, 1.0), (499.5, 0.6), (0.0, 0.2)):
        assert small.far(drawn(time, keys=curve)[0], drawn(time, strength)[0]) < 1e-6
    assert torch.equal(drawn(500, keys={5: "@0: 1"})[0], drawn(500)[0])
    both = {0: "@0: 1, @0.5: 0", 5: "@0: 0.5, @0.5: 0"}
    (early, early_passes), (late, late_passes) = drawn(900, keys=both), drawn(400, keys=both)
    assert early_passes > late_passes == 0
    assert torch.equal(late, drawn(400, scale=0)[0]) and small.far(early, drawn(900, scale=0)[0]) > 1e-3


def test_keys_of_a_curve_are_in_the_clip(unet: nn.Module) -> None:
    condition = sparsectrl.condition({0: torch.randn(4, 8, 16)}, 4)
    how = Influence(frames=4, keys={0: "0: 1, 9: 0 * @0: 1, @1: 0"})
    with (
        pytest.raises(MotionError, match="9 is not in a clip of 4 frames"),
        sparsectrl.attach(unet, small.random_encoder(), condition, 4, influence=how),
    ):
        pytest.fail("it was attached")
