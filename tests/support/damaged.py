"""Small clips in every format that is read, and what may happen to files on their way."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from PIL import Image

from motion.video import write

MOVING = {
    ".mov": ("mov", "prores_ks", "yuva444p10le"),
    ".mkv": ("matroska", "ffv1", "bgra"),
    ".avi": ("avi", "mpeg4", "yuv420p"),
    ".ts": ("mpegts", "libx264", "yuv420p"),
}
SUFFIXES = (".gif", ".webp", ".apng", ".png", ".jpg", ".tiff", ".bmp", ".mp4", ".webm", *MOVING)


def whole_files(folder: Path) -> dict[str, bytes]:
    """The bytes of a clip of three frames, or of one, by suffix."""
    frames = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), np.uint8)
    frames[:, 8:24, 8:24] = frames[:1, :1, :1]
    for suffix in (".gif", ".webp", ".apng", ".mp4", ".webm"):
        write(frames, folder / f"a{suffix}", 8, "text")
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in (".png", ".jpg", ".tiff", ".bmp"):
        Image.fromarray(frames[0]).save(folder / f"a{suffix}", **({} if suffix == ".bmp" else {"exif": exif}))
    for suffix, (container, codec, pixels) in MOVING.items():
        with av.open(str(folder / f"a{suffix}"), "w", format=container) as movie:
            stream = movie.add_stream(codec, rate=8)
            stream.width, stream.height, stream.pix_fmt = 32, 32, pixels
            for frame in frames:
                movie.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            movie.mux(stream.encode())
    return {suffix: (folder / f"a{suffix}").read_bytes() for suffix in SUFFIXES}


def damage(whole: bytes, cut: float, altered: list[tuple[float, int]]) -> bytes:
    """A file that ends at a share of its length and other bytes at some shares of it, mostly in its header."""
    data = bytearray(whole[: round(cut * len(whole))])
    for place, value in altered:
        if data:
            data[min(int(place**3 * len(data)), len(data) - 1)] = value
    return bytes(data)
