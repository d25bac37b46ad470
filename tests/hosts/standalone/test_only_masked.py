"""A second pass over what a mask shows: cut out, drawn as a clip, put back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import motion
from motion.errors import MotionError
from motion.fields.table import Size
from motion.hosts.only_masked import OnlyMasked
from motion.hosts.source import Source
from motion.hosts.standalone import Standalone
from motion.settings.settings import Clip
from motion.video.write import write

CLIP = Clip(prompt="a face", frames=4, steps=2, seed=1, size=Size(64, 64), cfg=1.0, mask_blur=2, strength=1.0)


def saved(path: Path, frames: npt.NDArray[np.uint8]) -> Path:
    write(frames, path, 10, "")
    return path


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    return saved(tmp_path / "movie.webp", np.random.default_rng(3).integers(0, 255, (4, 96, 160, 3), np.uint8))


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """A white square that wanders to the right."""
    frames = np.zeros((4, 96, 160, 3), np.uint8)
    for number, frame in enumerate(frames):
        frame[30:46, 20 + 20 * number : 36 + 20 * number] = 255
    return saved(tmp_path / "mask.webp", frames)


def test_what_the_mask_shows_is_drawn_as_a_clip_and_put_back(tiny: Path, movie: Path, mask: Path) -> None:
    host = Standalone.open(tiny / "sd15.safetensors", device="cpu")
    source = OnlyMasked(movie, mask=mask, padding=8)
    drawn = np.stack(list(host.stream(CLIP, motion.load(tiny / "v3.safetensors"), source=source)))
    plain, own = Source(movie, mask=mask), Size(160, 96)
    kept, masks = (np.stack(list(found)) for found in (plain.frames(4, own), plain.masks(4, own, CLIP.mask_blur)))
    assert drawn.shape == kept.shape
    assert (drawn[masks == 0] == kept[masks == 0]).all()
    assert np.abs(drawn[masks == 255].astype(int) - kept[masks == 255]).mean() > 10
    assert (host.render(CLIP, motion.load(tiny / "v3.safetensors"), source=source) == drawn).all()


def test_crops_put_back_as_they_are_change_nothing_where_sizes_agree(movie: Path, mask: Path) -> None:
    """A crop as large as its box is not resampled."""
    source = OnlyMasked(movie, mask=mask, padding=24)
    size = Size(64, 64)  # 16 and twice the padding
    crops = list(source.frames(4, size))
    back = np.stack(list(source.put_back(iter(crops), range(4), 4, 0)))
    assert (back == np.stack(list(Source(movie).frames(4, Size(160, 96))))).all()


def test_frames_in_another_order_find_their_places(movie: Path, mask: Path) -> None:
    source = OnlyMasked(movie, mask=mask, padding=24)
    crops = list(source.frames(4, Size(64, 64)))
    order = [0, 1, 2, 3, 2, 1]
    back = np.stack(list(source.put_back((crops[number] for number in order), order, 4, 0)))
    assert (back == np.stack(list(Source(movie).frames(4, Size(160, 96))))[order]).all()


def test_frames_are_left_out_to_the_target_rate(movie: Path, mask: Path) -> None:
    """As without the box: at half the rate every second frame, and the mask's."""
    source, size = OnlyMasked(movie, mask=mask, fps=5.0, padding=24), Size(64, 64)
    back = np.stack(list(source.put_back(source.frames(2, size), range(2), 2, 0)))
    assert (back == np.stack(list(Source(movie, fps=5.0).pictures(2)))).all()
    assert (back == np.stack(list(Source(movie).pictures(4)))[::2]).all()


def test_what_cannot_be_followed_is_refused(tmp_path: Path, movie: Path) -> None:
    black = saved(tmp_path / "black.webp", np.zeros((1, 96, 160, 3), np.uint8))
    with pytest.raises(MotionError, match="shows nothing"):
        next(OnlyMasked(movie, mask=black).frames(4, CLIP.size))
    with pytest.raises(MotionError, match="there is no mask"):
        OnlyMasked.of(Source(movie), "")
    with pytest.raises(MotionError, match="give a whole number"):
        OnlyMasked.of(Source(movie, mask=black), "-1")


def test_the_size_of_boxes_is_the_usual_one(movie: Path, mask: Path) -> None:
    assert OnlyMasked(movie, mask=mask).measure().size == replace(CLIP, size=Clip().size).size
