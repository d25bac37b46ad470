"""Movies as players show them: upright, in square pixels, in their colours, blended, one frame at a time."""

from __future__ import annotations

import struct
import weakref
from collections.abc import Callable
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from motion.errors import MotionError
from motion.video import open_clip, read, write
from motion.video.files import MOVIES

CONTAINERS = {".mkv": "matroska", ".avi": "avi", ".webm": "webm", ".ts": "mpegts", ".mts": "mpegts", ".m2ts": "mpegts"}
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def corners(height: int = 32, width: int = 64) -> np.ndarray:
    """A picture with another colour in each quarter but the last."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2], picture[: height // 2, width // 2 :] = RED, GREEN
    picture[height // 2 :, : width // 2] = BLUE
    return picture


def movie(path: Path, frames: Any, codec: str, pix_fmt: str, given: str = "rgb24", **tags: Any) -> Path:
    """Frames in a container and codec; `tags` are the codec's."""
    with av.open(str(path), "w", format=CONTAINERS.get(path.suffix, "mov")) as container:
        options = {"auto-alt-ref": "0"} if codec == "libvpx" else {}  # or VP8 takes no alpha
        stream = container.add_stream(codec, rate=8, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], pix_fmt
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format=given)))
        container.mux(stream.encode())
    return path


def near(one: np.ndarray, other: Any, most: float = 12) -> bool:
    return np.abs(one.astype(float) - np.asarray(other, float)).mean() <= most


@pytest.mark.parametrize("suffix", MOVIES)
def test_every_container_is_read(tmp_path: Path, suffix: str) -> None:
    codec = "libvpx-vp9" if suffix == ".webm" else "libx264"
    clip = read(movie(tmp_path / f"clip{suffix}", [corners()] * 3, codec, "yuv420p"))
    assert clip.frames.shape == (3, 32, 64, 3) and near(clip.frames[0], corners())


TURNS: dict[str, tuple[tuple[int, int, int, int], Callable[[np.ndarray], np.ndarray]]] = {
    "as it is": ((1, 0, 0, 1), lambda p: p),
    "mirrored": ((-1, 0, 0, 1), np.fliplr),
    "upside down": ((-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
    "flipped": ((1, 0, 0, -1), np.flipud),
    "clockwise": ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
    "anticlockwise": ((0, -1, 1, 0), np.rot90),
    "transposed": ((0, 1, 1, 0), lambda p: p.swapaxes(0, 1)),
    "transversed": ((0, -1, -1, 0), lambda p: np.rot90(p, 2).swapaxes(0, 1)),
}


@pytest.mark.parametrize("turn", TURNS)
def test_a_display_matrix_is_heeded(tmp_path: Path, turn: str) -> None:
    (a, b, c, d), shown = TURNS[turn]
    write(np.stack([corners()] * 2), tmp_path / "a.mp4", 8)
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    at = data.index(b"tkhd") + 44  # ISO/IEC 14496-12, section 8.3.2: the matrix of the track's header
    data[at : at + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    (tmp_path / "b.mp4").write_bytes(data)
    found = read(tmp_path / "b.mp4").frames[0]
    assert found.shape == shown(corners()).shape and near(found, shown(corners()))


@pytest.mark.parametrize(("aspect", "width"), [(Fraction(2), 128), (Fraction(8, 9), 57), (Fraction(50), 64)])
def test_pixels_come_out_square(tmp_path: Path, aspect: Fraction, width: int) -> None:
    path = movie(tmp_path / "a.mp4", [corners()] * 2, "libx264", "yuv420p", sample_aspect_ratio=aspect)
    assert read(path).frames.shape == (2, 32, width, 3)


@pytest.mark.parametrize(("width", "matrix"), [(1280, (0.2126, 0.0722)), (64, (0.299, 0.114))])
def test_hd_without_a_tag_is_bt_709_and_sd_bt_601(tmp_path: Path, width: int, matrix: tuple[float, float]) -> None:
    colour, (red, blue) = np.array((200, 100, 50)) / 255, matrix
    luma = colour @ (red, 1 - red - blue, blue)
    cb, cr = (colour[2] - luma) / (2 - 2 * blue), (colour[0] - luma) / (2 - 2 * red)
    planes = [np.full((16, width), 16 + 219 * luma), *(np.full((4, width), 128 + 224 * c) for c in (cb, cr))]
    frame = np.concatenate(planes).round().astype(np.uint8)

    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"qp": "0"})
        stream.height, stream.width, stream.pix_fmt = 16, width, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="yuv420p")))
        container.mux(stream.encode())
    assert near(read(path).frames[0], (200, 100, 50), 2)


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused_by_name(tmp_path: Path, transfer: int, name: str) -> None:
    path = movie(tmp_path / "a.mp4", [corners()] * 2, "libx264", "yuv420p", color_trc=transfer)
    with pytest.raises(MotionError, match=rf"HDR video \({name}\)"):
        read(path)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [("a.mov", "qtrle", "argb"), ("a.mov", "png", "rgba"), ("a.mov", "prores_ks", "yuva444p10le"),
     ("a.mkv", "ffv1", "bgra"), ("a.webm", "libvpx-vp9", "yuva420p"), ("a.webm", "libvpx", "yuva420p")],
)  # fmt: skip
def test_what_alpha_hides_is_not_seen(tmp_path: Path, name: str, codec: str, pix_fmt: str) -> None:
    frame = np.zeros((32, 64, 4), np.uint8)
    frame[..., :3], frame[:, 32:, 3], frame[:, :32, :2] = GREEN, 255, 0
    path = movie(tmp_path / name, [frame] * 2, codec, pix_fmt, "rgba")
    for background, colour in (("#ffffff", (255, 255, 255)), ("#000000", (0, 0, 0))):
        (first, _) = open_clip(path, background).frames()
        assert near(first[:, :28], colour) and near(first[:, 36:], GREEN)


def test_ten_bits_are_scaled(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16)[None, :, None], (32, 1, 3))
    path = movie(tmp_path / "a.mov", [ramp] * 2, "prores_ks", "yuv422p10le", "rgb48le")
    assert near(read(path).frames[0], ramp // 257, 3)


def test_a_range_is_walked_and_nothing_is_held(tmp_path: Path) -> None:
    shades = np.arange(0, 240, 6, np.uint8)
    for name in ("a.mp4", "b.webp", "c"):
        write(np.broadcast_to(shades[:, None, None, None], (40, 16, 16, 3)), tmp_path / name, 8)
        clip = open_clip(tmp_path / name)
        seen = [float(frame.mean()) for frame in clip.frames(5, 35, 10)]
        assert seen == pytest.approx(shades[5:35:10].tolist(), abs=2)
        alive, most = [], 0
        for frame in clip.frames():
            alive.append(weakref.ref(frame))
            most = max(most, sum(ref() is not None for ref in alive))
            del frame
        assert len(alive) == 40 and most <= 2


def test_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(np.zeros((4, 16, 16, 3), np.uint8) + np.arange(4, dtype=np.uint8)[:, None, None, None], tmp_path / "a.mp4", 8)
    monkeypatch.setattr(import_module("motion.video.read"), "MOST_HELD", 2 * 16 * 16 * 3)
    with pytest.raises(MotionError, match="longer than 3 frames"):
        read(tmp_path / "a.mp4")
    assert len(list(open_clip(tmp_path / "a.mp4").frames())) == 4
    monkeypatch.setattr("motion.video.pictures.MOST_PIXELS", 16 * 16 - 1)
    with pytest.raises(MotionError, match="is 16x16: give one of"):
        next(open_clip(tmp_path / "a.mp4").frames())


def test_audio_alone_is_no_clip(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(MotionError, match="is no clip"):
        read(tmp_path / "a.mp4")
