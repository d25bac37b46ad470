from __future__ import annotations

import errno
import weakref
from collections.abc import Iterator
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from motion.errors import MotionError
from motion.video import check_destination, read, read_parameters, write
from motion.video.destination import ENCODERS
from motion.video.encoders import durations
from motion.video.palette import dither, shared_palette
from motion.video.write import Rewindable

write_room = import_module("motion.video.write")

NAMES = ["clip.gif", "clip.webp", "clip.png", "clip.apng", "clip.mp4", "clip.webm", "clip"]
ANIMATED = NAMES[:-1]
LOSSLESS = ["clip.webp", "clip.png", "clip.apng", "clip"]
STREAMED = ["clip.mp4", "clip.webm", "clip"]

# The mean error allowed per 8-bit channel: 256 colours for the whole clip, or half the resolution in colour.
LOSSY = {"clip.gif": 6.0, "clip.mp4": 4.0, "clip.webm": 4.0}

INFOTEXT = 'ein "roter" Kreis, 🎈 <lora:pan:0.8>\nNegative prompt: \\n, naïve\r\nSteps: 25, Size: 64x64, Seed: 1'


def moving_blob(frames: int = 6, height: int = 32, width: int = 48) -> np.ndarray:
    """A smooth blob that moves over a gradient, uint8 [frames, height, width, 3]; no two frames are equal."""
    f, y, x = np.ogrid[:frames, :height, :width]
    blob = np.exp(-((x - 8 - 4 * f) ** 2 + (y - 16) ** 2) / 60)
    channels = (40 + 200 * blob, 60 + 120 * x / width + 0 * blob, 200 - 150 * blob * y / height)
    return np.stack([channel.astype(np.uint8) for channel in channels], axis=-1)


@pytest.mark.parametrize("name", NAMES)
def test_a_clip_comes_back_with_its_frames_and_parameters(tmp_path: Path, name: str) -> None:
    clip = moving_blob()
    write(clip, tmp_path / name, 8, INFOTEXT)
    found = read(tmp_path / name)
    assert found.frames.shape == clip.shape
    assert np.abs(found.frames.astype(int) - clip).mean() <= LOSSY.get(name, 0)
    assert found.parameters == read_parameters(tmp_path / name) == INFOTEXT
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("fps", [1, 8, 12, 24000 / 1001, 30, 50])
@pytest.mark.parametrize("name", ANIMATED)
def test_the_duration_is_right_to_the_tick(tmp_path: Path, name: str, fps: float) -> None:
    write(moving_blob(frames=7), tmp_path / name, fps)
    found = read(tmp_path / name)
    assert found.fps is not None
    assert len(found.frames) / found.fps == pytest.approx(7 / fps, abs=0.0051 if name == "clip.gif" else 0.00051)


@given(st.integers(1, 200), st.fractions("0.1", 240, max_denominator=1001), st.sampled_from([100, 1000]))
def test_every_frame_begins_within_half_a_tick_of_its_time(frames: int, fps: Fraction, ticks: int) -> None:
    starts = np.cumsum([0, *durations(frames, fps, ticks)])
    assert all(abs(start - index * ticks / fps) <= 0.5 for index, start in enumerate(starts.tolist()))


@pytest.mark.parametrize("name", NAMES)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
@settings(max_examples=15)
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, name: str, text: str) -> None:
    path = tmp_path_factory.mktemp("text") / name
    write(np.zeros((1, 16, 16, 3), np.uint8), path, 8, text)
    assert read_parameters(path) == text


@pytest.mark.parametrize("name", NAMES)
def test_no_text_is_none_and_a_long_one_is_whole(tmp_path: Path, name: str) -> None:
    for text in ("", "a red circle, " * 10_000):
        path = tmp_path / f"{len(text)}-{name}"
        write(moving_blob(2), path, 8, text)
        assert read_parameters(path) == (text or None)


def test_a_gif_has_one_palette_and_loops(tmp_path: Path) -> None:
    write(moving_blob(), tmp_path / "clip.gif", 8)
    assert local_palettes((tmp_path / "clip.gif").read_bytes()) == [False] * 6
    with Image.open(tmp_path / "clip.gif") as gif:
        assert gif.info["loop"] == 0


def test_a_gif_keeps_few_colours_exact(tmp_path: Path) -> None:
    clip = np.zeros((4, 16, 16, 3), np.uint8)
    clip[:] = (0, 0, 128)
    for index in range(4):
        clip[index, 4:8, index : index + 4] = (255, 0, 0)
    write(clip, tmp_path / "clip.gif", 8)
    np.testing.assert_array_equal(read(tmp_path / "clip.gif").frames, clip)


@pytest.mark.parametrize("name", NAMES)
def test_colours_are_read_as_they_were_meant(tmp_path: Path, name: str) -> None:
    flat = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 100, 50)], np.uint8)
    clip = np.stack([flat, flat[::-1]]).repeat(16, axis=1)[:, None].repeat(16, axis=1)
    write(clip, tmp_path / name, 8)
    middles = read(tmp_path / name).frames[:, 8, 8::16]
    assert np.abs(middles.astype(int) - clip[:, 8, 8::16]).max() <= 4


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 1), (33, 47)])
def test_odd_sizes(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    clip = moving_blob(2, *size)
    clip[1] = 255 - clip[0]
    write(clip, tmp_path / name, 8)
    frames = read(tmp_path / name).frames[:, : size[0], : size[1]]
    assert frames.shape == clip.shape
    even = [side + side % 2 for side in size] if name == "clip.mp4" else list(size)
    assert list(read(tmp_path / name).frames.shape[1:3]) == even


@pytest.mark.parametrize("name", LOSSLESS)
def test_equal_neighbours_come_back_as_several_frames(tmp_path: Path, name: str) -> None:
    clip = moving_blob(4)[[0, 0, 0, 1, 2, 2, 3]]
    write(clip, tmp_path / name, 12)
    np.testing.assert_array_equal(read(tmp_path / name).frames, clip)


@pytest.mark.parametrize("name", NAMES)
def test_a_clip_that_never_changes_can_be_written(tmp_path: Path, name: str) -> None:
    write(moving_blob(1).repeat(3, axis=0), tmp_path / name, 8, INFOTEXT)
    found = read(tmp_path / name)
    assert found.frames.shape[1:] == (32, 48, 3)
    assert found.parameters == INFOTEXT


def test_a_picture_that_stays_for_too_long_is_told(tmp_path: Path) -> None:
    with pytest.raises(MotionError, match="stays longer than its format can say"):
        write(np.zeros((70, 4, 4, 3), np.uint8), tmp_path / "a.gif", 0.1)
    assert list(tmp_path.iterdir()) == []


def test_one_frame_in_a_png_is_a_still(tmp_path: Path) -> None:
    write(moving_blob(1), tmp_path / "still.png", 8)
    assert b"acTL" not in (tmp_path / "still.png").read_bytes()
    assert read(tmp_path / "still.png").fps is None


@pytest.mark.parametrize("name", STREAMED)
def test_frames_are_streamed(tmp_path: Path, name: str) -> None:
    alive: list[weakref.ref[np.ndarray]] = []
    most = 0

    def frames() -> Iterator[np.ndarray]:
        nonlocal most
        for index in range(40):
            frame = np.full((16, 16, 3), 6 * index, np.uint8)
            alive.append(weakref.ref(frame))
            most = max(most, sum(ref() is not None for ref in alive))
            yield frame

    write(frames(), tmp_path / name, 8)
    assert most <= 4


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_of_an_interrupted_clip(tmp_path: Path, name: str, error: type[BaseException]) -> None:
    def frames() -> Iterator[np.ndarray]:
        yield from moving_blob(3)
        raise error("stop")

    with pytest.raises(error, match="stop"):
        write(frames(), tmp_path / name, 8)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ANIMATED)
def test_an_existing_clip_is_replaced_only_by_a_whole_one(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"old")
    with pytest.raises(MotionError, match="Frame 1"):
        write([moving_blob(1)[0], moving_blob(1, 8, 8)[0]], tmp_path / name, 8)
    assert (tmp_path / name).read_bytes() == b"old"
    write(moving_blob(2), tmp_path / name, 8)
    assert len(read(tmp_path / name).frames) == 2
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_folders_are_chosen_by_name_or_by_being_there(tmp_path: Path) -> None:
    (tmp_path / "there.gif").mkdir()
    for name in ("there.gif", "plain", "dotted.v2/"):
        write(moving_blob(2), f"{tmp_path}/{name}", 8)
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["00000.png", "00001.png"]
        with pytest.raises(MotionError, match="is not empty"):
            check_destination(f"{tmp_path}/{name}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clip.avi", r"'.avi' is no clip format: use .gif"),
        ("missing/clip.gif", "does not exist"),
        ("file", "is a file, not a folder"),
        ("file/", "is a file, not a folder"),
        ("file/clip.gif", "does not exist"),
        ("clip\0.gif", "is no file name"),
    ],
)
def test_what_cannot_be_a_destination_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MotionError, match=message):
        check_destination(f"{tmp_path}/{name}")
    with pytest.raises(MotionError, match=message):
        write(moving_blob(1), f"{tmp_path}/{name}", 8)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1e9, "eight", None])
def test_impossible_rates_are_refused(tmp_path: Path, name: str, fps: float) -> None:
    with pytest.raises(MotionError, match="frames per second"):
        write(moving_blob(1), tmp_path / name, fps)


def test_a_gif_is_not_faster_than_browsers_play_it(tmp_path: Path) -> None:
    with pytest.raises(MotionError, match=r"use 0.1 to 50"):
        write(moving_blob(2), tmp_path / "clip.gif", 60)


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((0, 8, 8, 3), np.uint8),
        np.zeros((2, 8, 8, 3), np.float32),
        np.zeros((2, 8, 8, 4), np.uint8),
        np.zeros((2, 8, 8), np.uint8),
        np.zeros((2, 0, 8, 3), np.uint8),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_frame_is_refused(tmp_path: Path, name: str, frames: np.ndarray) -> None:
    with pytest.raises(MotionError):
        write(frames, tmp_path / name, 8)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
def test_text_that_no_file_can_carry_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(MotionError, match="parameters hold"):
        write(moving_blob(1), tmp_path / "clip.gif", 8, text)


def test_only_movies_need_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    for name in NAMES:
        if name in ("clip.mp4", "clip.webm"):
            with pytest.raises(MotionError, match="pip install av"):
                check_destination(tmp_path / name)
        else:
            write(moving_blob(2), tmp_path / name, 8)
            assert len(read(tmp_path / name).frames) == 2


@pytest.mark.parametrize("name", NAMES)
def test_the_slowest_rate_and_a_name_with_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("2024:01").mkdir()
    write(moving_blob(3), f"2024:01/{name}", 0.1)
    found = read(f"2024:01/{name}")
    assert len(found.frames) == 3 and found.fps == (None if name == "clip" else pytest.approx(0.1))


@pytest.mark.parametrize(("name", "most"), [("a.webp", 16383), ("a.mp4", 16384), ("a.gif", 65535), ("a.webm", 65535)])
def test_sizes_beyond_a_format_are_refused(tmp_path: Path, name: str, most: int) -> None:
    with pytest.raises(MotionError, match=f"a frame is {most + 1}x2: {Path(name).suffix} takes {most} pixels a side"):
        write(np.zeros((1, 2, most + 1, 3), np.uint8), tmp_path / name, 8)
    assert list(tmp_path.iterdir()) == []


def test_what_stands_still_in_a_gif_stays_as_it_is(tmp_path: Path) -> None:
    clip = np.concatenate([moving_blob(6, 64, 96)] * 2, axis=2)
    clip += np.random.default_rng(0).integers(0, 24, (1, *clip.shape[1:]), dtype=np.uint8)  # more than 256 colours
    write(clip, tmp_path / "a.gif", 8)
    found = read(tmp_path / "a.gif").frames
    still = (clip[1:] == clip[:-1]).all(-1)
    assert still.mean() > 0.2 and not (found[1:] != found[:-1]).any(-1)[still].any()


def test_a_gif_keeps_its_shades_on_average() -> None:
    """The point of a dither: blocks of its pattern's size are nearer to the clip than in the nearest colours."""
    y, x = np.mgrid[:128, :128]
    frame = np.stack([40 + x, 60 + y, 120 + 60 * np.sin(x / 20) * np.cos(y / 20)], axis=-1).astype(np.uint8)
    palette = shared_palette(frame[None])
    colours = np.reshape(palette.image.getpalette(), (-1, 3))
    nearest = colours[((frame[:, :, None].astype(int) - colours) ** 2).sum(-1).argmin(-1)]

    def coarse(pixels: np.ndarray) -> np.ndarray:
        return pixels.reshape(32, 4, 32, 4, 3).mean((1, 3))

    dithered = np.asarray(dither(frame, palette).convert("RGB"))
    errors = [np.abs(coarse(pixels) - coarse(frame)).mean() for pixels in (dithered, nearest)]
    assert errors[0] < 0.8 * errors[1]


FULL = OSError(errno.ENOSPC, "No space left on device")


def full_at_first(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Let the disk be full when the clip is to be moved or written for the first few times."""
    left = iter([FULL] * times)
    replace, encode = Path.replace, ENCODERS[".png"]

    def full(act: Any) -> Any:
        def acts(*args: Any) -> Any:
            for error in left:
                raise error
            return act(*args)

        return acts

    monkeypatch.setattr(Path, "replace", full(replace))
    monkeypatch.setitem(ENCODERS, ".png", full(encode))


def test_a_clip_whose_disk_is_full_is_kept_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "room").mkdir(), (tmp_path / "out").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "room"))
    monkeypatch.setattr(write_room, "_free_bytes", lambda place: place.name == "room")
    for frames in (moving_blob(2), Rewindable(lambda: iter(moving_blob(2)))):
        full_at_first(monkeypatch, 1)
        with pytest.raises(MotionError, match=r"No space left on device.* the clip was kept as .*room") as error:
            write(frames, tmp_path / "out" / "a.png", 8, INFOTEXT)
        (kept,) = (tmp_path / "room").rglob("a.png")
        assert str(kept) in str(error.value) and (read(kept).frames == moving_blob(2)).all()
        assert read_parameters(kept) == INFOTEXT and list((tmp_path / "out").iterdir()) == []
        kept.unlink()
        monkeypatch.undo()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "room"))
        monkeypatch.setattr(write_room, "_free_bytes", lambda place: place.name == "room")


@pytest.mark.parametrize(("frames", "times"), [(moving_blob(2), 9), (iter(moving_blob(2)), 1)])
def test_a_clip_for_which_there_is_no_room_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: Any, times: int
) -> None:
    full_at_first(monkeypatch, times)
    with pytest.raises(MotionError, match=r"No space left on device\): check the disk"):
        write(frames, tmp_path / "a.png", 8)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_files_have_the_rights_that_new_files_have(tmp_path: Path, name: str) -> None:
    write(moving_blob(2), tmp_path / name, 8)
    (tmp_path / "plain").touch()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len({path.stat().st_mode for path in files}) == 1


def test_names_that_cannot_be_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MotionError, match="is too long: shorten it to 255 bytes"):
        check_destination(tmp_path / ("ü" * 126 + ".gif"))
    check_destination(tmp_path / ("ü" * 125 + ".gif"))
    monkeypatch.setattr("motion.video.destination._NOT_IN_NAMES", frozenset('?:"'))
    with pytest.raises(MotionError, match="is no file name"):
        check_destination(tmp_path / "what?.gif")


def local_palettes(gif: bytes) -> list[bool]:
    """For each image of a GIF, whether it brings a palette of its own (GIF89a, sections 18 to 23)."""
    assert gif[10] & 0x80, "no global palette"
    at = 13 + 3 * 2 ** ((gif[10] & 7) + 1)
    found = []
    while gif[at] != 0x3B:
        if gif[at] == 0x2C:
            flags = gif[at + 9]
            found.append(bool(flags & 0x80))
            at += 11 + (3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0)
        else:
            at += 2
        while gif[at]:
            at += gif[at] + 1
        at += 1
    return found


def test_h264_takes_options_that_are_not_ours(tmp_path: Path) -> None:
    pytest.importorskip("av")
    frames = np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3), np.uint8)
    sizes = {}
    for crf in ("16", "45"):
        write(frames, tmp_path / f"{crf}.mp4", 8, h264={"crf": crf})
        sizes[crf] = (tmp_path / f"{crf}.mp4").stat().st_size
    write(frames, tmp_path / "ours.mp4", 8)
    assert (tmp_path / "ours.mp4").stat().st_size == sizes["16"] > 2 * sizes["45"]
    write(frames, tmp_path / "clip.gif", 8, h264={"crf": "45"})
