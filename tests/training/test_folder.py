"""A folder of clips: what is found in it, how it is cut, and that a step draws what the recipe says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from motion.errors import MotionError
from motion.training.folder import Clips, Source, find, fit_frame, window
from motion.training.moves import MOVES, make_moves, move_camera
from motion.video.write import write


def frames(count: int = 3, height: int = 24, width: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def picture(path: Path, height: int = 24, width: int = 40) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(frames(1, height, width)[0]).save(path)


def test_clips_folders_and_stills_are_found_with_their_captions(tmp_path: Path) -> None:
    write(frames(), tmp_path / "a.gif", 8.0)
    picture(tmp_path / "b" / "0.png"), picture(tmp_path / "b" / "1.jpg")
    picture(tmp_path / "c.jpg"), picture(tmp_path / "d.png")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "a.txt").write_text(" a cat \n")
    (tmp_path / "b.txt").write_text("a dog")
    (tmp_path / "any.csv").write_text('file,caption\na.gif,no\nc.jpg,"a cow, white"\nnone.gif,x\n')
    found = find(tmp_path)
    assert [(source.path.name, source.caption) for source in found] == [
        ("a.gif", "a cat"), ("b", "a dog"), ("c.jpg", "a cow, white"), ("d.png", "")
    ]  # fmt: skip
    called = [source.caption for source in find(tmp_path, "pan")]
    assert called == ["pan, a cat", "pan, a dog", "pan, a cow, white", "pan"]
    before = [source.digest() for source in found]
    picture(tmp_path / "b" / "2.png")
    after = [source.digest() for source in find(tmp_path)]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True, True]


@pytest.mark.parametrize(
    ("name", "words"), [("missing", "no folder"), ("empty", "holds no clips"), ("csv", "lacks the columns")]
)
def test_what_is_no_data_is_said(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    picture(tmp_path / "csv" / "a.png")
    (tmp_path / "csv" / "a.csv").write_text("name;text\n")
    with pytest.raises(MotionError, match=words):
        find(tmp_path / name)


def test_what_is_left_out_is_named_and_leftovers_and_runs_are_not_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(frames(), tmp_path / "clip 10.mp4", 8.0)
    for name in ("clip 2.MOV", "clip 1.m4v"):
        (tmp_path / name).write_bytes((tmp_path / "clip 10.mp4").read_bytes())
    for name in ("a.wmv", "b.heic", "._clip 2.MOV", "Thumbs.db", "notes.txt"):
        (tmp_path / name).touch()
    for folder in ("__MACOSX", "run", "run/latents"):
        (tmp_path / folder).mkdir()
    (tmp_path / "run" / "motion-lora.csv").write_text("step,loss\n")
    assert [source.name for source in find(tmp_path)] == ["clip 1", "clip 2", "clip 10"]
    assert "a.wmv, b.heic, run: left out, since clips are folders of pictures or .png" in caplog.text
    assert "Thumbs" not in caplog.text and "notes" not in caplog.text
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "a.wmv").touch()
    with pytest.raises(MotionError, match=r"holds no clips but a\.wmv: put folders of pictures or files of \.png"):
        find(tmp_path / "others")


@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(1, 8).map(lambda n: 8 * n),
    st.integers(1, 8).map(lambda n: 8 * n),
)
def test_frames_are_cut_to_size_around_the_middle(height: int, width: int, high: int, wide: int) -> None:
    picture = np.zeros((height, width, 3), dtype=np.uint8)
    picture[:, : width // 2] = 255
    cut = fit_frame(picture, wide, high)
    assert cut.shape == (high, wide, 3)
    if width % 2 == 0:
        assert abs(int(cut[:, 0].mean()) - 255) <= 160 and cut[:, 0].mean() > cut[:, -1].mean()


@given(st.integers(1, 200), st.integers(1, 32), st.integers(1, 8), st.integers(0, 99))
def test_a_window_has_its_stride_or_the_whole_clip(length: int, count: int, stride: int, seed: int) -> None:
    found = window(length, count, stride, np.random.default_rng(seed))
    assert len(found) == count and found == sorted(found) and found[0] >= 0 and found[-1] < length
    if length > (count - 1) * stride:
        assert found == list(range(found[0], found[0] + count * stride, stride))
    elif count > 1:
        assert (found[0], found[-1]) == (0, length - 1)


def test_latents_are_drawn_from_their_posterior(tmp_path: Path) -> None:
    mean = torch.arange(6.0)[:, None, None, None].expand(6, 4, 16, 16)
    save_file({"moments": torch.cat([mean, torch.full_like(mean, 0.1)], dim=1).contiguous()}, tmp_path / "a")
    contexts = torch.tensor([1.0, 0.0])[:, None, None].expand(2, 77, 8)
    clips = Clips([tmp_path / "a"], contexts, frames=2, stride=3)
    latents, text = clips.clips(np.random.default_rng(0), 200, text_drop=0.25)
    assert latents.shape == (200, 2, 4, 16, 16) and text.shape == (200, 77, 8)
    steps = latents.mean(dim=(2, 3, 4))
    assert torch.allclose(steps[:, 1] - steps[:, 0], torch.tensor(3.0), atol=0.05)
    assert {round(value) for value in steps[:, 0].tolist()} == {0, 1, 2}
    assert (latents - latents.mean(dim=(2, 3, 4), keepdim=True)).std() == pytest.approx(0.1, rel=0.02)
    assert (text[:, 0, 0] == 0).float().mean() == pytest.approx(0.25, abs=0.1)
    stills, _ = clips.stills(np.random.default_rng(0), 200, text_drop=0.0)
    assert {round(value) for value in stills.mean(dim=(1, 2, 3)).tolist()} == set(range(6))


def ramps(height: int, width: int) -> np.ndarray:
    """A picture whose red says how far right and whose green how far down a place is."""
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * x / width, 255 * y / height, 0 * x], axis=-1).round().astype(np.uint8)[None]


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (64, 128)])
@pytest.mark.parametrize("move", MOVES)
def test_the_camera_does_what_it_is_told(move: str, size: tuple[int, int]) -> None:
    width, height = size
    clip = move_camera(ramps(200, 300), move, 8, width, height).astype(float)
    assert clip.shape == (8, height, width, 3)
    middle = clip[:, height // 2, width // 2]
    across = clip[:, height // 2, -4, 0] - clip[:, height // 2, 3, 0]
    falling = clip[:, height // 2, -4, 1] - clip[:, height // 2, 3, 1]
    measured = {"pan": middle[:, 0], "tilt": middle[:, 1], "zoom": across, "roll": falling}
    sign = {"left": -1, "right": 1, "up": -1, "down": 1, "in": -1, "out": 1, "clockwise": 1, "anticlockwise": -1}
    kind, _, direction = move.partition("-")
    steps = {name: np.diff(values) * (sign[direction] if name == kind else 1) for name, values in measured.items()}
    assert (steps[kind] > 1).all()
    assert all(abs(values.sum()) <= 3 for name, values in steps.items() if name not in (kind, "zoom"))
    assert (clip[..., :2].max(axis=-1) > 0).all(), "a corner lies outside of the picture"


def test_moves_are_made_once_and_keep_their_captions(tmp_path: Path) -> None:
    picture(tmp_path / "data" / "a.png", 64, 64)
    sources = [Source(tmp_path / "data" / "a.png", "a cat")]
    made = make_moves(sources, "pan-left", tmp_path / "made", 4, (32, 32))
    before = made[0].path.stat().st_mtime_ns
    assert [source.caption for source in made] == ["a cat"]
    assert make_moves(sources, "pan-left", tmp_path / "made", 4, (32, 32)) == made
    assert made[0].path.stat().st_mtime_ns == before


def test_a_long_clip_is_hurried_and_few_of_its_frames_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = np.arange(0, 250, 5, dtype=np.uint8)[:, None, None, None] + np.zeros((50, 64, 64, 3), np.uint8)
    write(clip, tmp_path / "a.webp", 8.0)
    seen = []
    monkeypatch.setattr("motion.training.moves.move_camera", lambda frames, *_: seen.append(frames) or frames)
    make_moves([Source(tmp_path / "a.webp", "")], "zoom-in", tmp_path, 4, (64, 64))
    assert (seen[0] == clip[[0, 16, 33, 49]]).all()
