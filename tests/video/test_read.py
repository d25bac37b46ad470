from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from motion.errors import MotionError
from motion.video import movies, read, read_parameters, write
from motion.video.exif import EXIF_IFD, USER_COMMENT, decode_user_comment, encode_user_comment
from motion.video.read import open_clip

SUFFIXES = [".gif", ".webp", ".png", ".mp4", ".webm"]
MAGIC = [b"GIF89a", b"RIFF\0\1\0\0WEBPVP8X", b"\x89PNG\r\n\x1a\n", b"\0\0\0\x20ftypisom", b"\x1a\x45\xdf\xa3", b""]


@given(magic=st.sampled_from(MAGIC), rest=st.binary(max_size=200))
@settings(max_examples=60)
def test_random_files_are_refused(tmp_path_factory: pytest.TempPathFactory, magic: bytes, rest: bytes) -> None:
    path = tmp_path_factory.mktemp("random") / "clip.bin"
    path.write_bytes(magic + rest)
    with pytest.raises(MotionError, match=r"clip\.bin"):
        read(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_truncated_files_are_refused_or_shorter(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(1)
    write(rng.integers(0, 256, (3, 32, 32, 3), np.uint8), tmp_path / f"whole{suffix}", 8, "text")
    whole = (tmp_path / f"whole{suffix}").read_bytes()
    path = tmp_path / f"part{suffix}"
    for length in np.linspace(0, len(whole) - 1, 25).astype(int):
        path.write_bytes(whole[:length])
        try:
            frames = read(path).frames
        except MotionError as error:
            assert path.name in str(error)
        else:
            assert len(frames) <= 3


@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{secret}'\n",
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n({secret}) run\n",
    ],
)
def test_files_that_point_elsewhere_are_not_followed(tmp_path: Path, content: str) -> None:
    write(np.zeros((2, 16, 16, 3), np.uint8), tmp_path / "secret.mp4", 8)
    path = tmp_path / "clip.mp4"
    path.write_text(content.format(secret=tmp_path / "secret.mp4"))
    with pytest.raises(MotionError, match="is no clip"):
        read(path)


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("clip.gif", "pipe.png", "x" * 300, "a\0b"):
        with pytest.raises(MotionError, match="does not exist or is no file"):
            read(tmp_path / name)
    (tmp_path / "pipe.png").unlink()
    with pytest.raises(MotionError, match=r"holds no pictures"):
        read_parameters(tmp_path)


def test_a_folder_of_two_sizes_is_refused(tmp_path: Path) -> None:
    for side in (8, 16):
        write(np.zeros((1, side, side, 3), np.uint8), tmp_path / f"{side}.png", 8)
    with pytest.raises(MotionError, match="differ in size"):
        read(tmp_path)


def test_what_the_webui_writes_is_read(tmp_path: Path) -> None:
    still = Image.new("RGB", (8, 8))
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("parameters", "a prompt")
    still.save(tmp_path / "still.png", pnginfo=chunks)
    still.save(tmp_path / "still.jpg", exif=b"Exif\0\0" + encode_user_comment("a prompt"))
    for name in ("still.png", "still.jpg"):
        assert read_parameters(tmp_path / name) == "a prompt"


def test_the_user_comment_is_what_other_readers_see() -> None:
    exif = Image.Exif()
    exif.load(encode_user_comment("ünï 🎈"))
    assert exif.get_ifd(EXIF_IFD)[USER_COMMENT] == b"UNICODE\0" + "ünï 🎈".encode("utf-16-be")
    assert decode_user_comment(b"ASCII\0\0\0plain") == "plain"


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".mp4", ".webm", "/"])
def test_glimpses_are_the_frames_at_their_places(tmp_path: Path, suffix: str) -> None:
    """Of a movie up to its compression; of one that is cut off those that are there."""
    if suffix in (".mp4", ".webm"):
        pytest.importorskip("av")
    frames = np.stack([np.full((32, 48, 3), 20 * number, np.uint8) for number in range(12)])
    path = tmp_path / f"clip{suffix}"
    if suffix == "/":
        path.mkdir()
        for number, frame in enumerate(frames):
            Image.fromarray(frame).save(path / f"{number:02}.png")
    else:
        write(frames, path, 8)
    for places in ([0, 5, 11], [3], list(range(12))):
        found = [frame.mean() / 20 for frame in open_clip(path).glimpses(places)]
        assert found == pytest.approx(places, abs=0.2)
    if suffix == ".mp4":
        path.write_bytes(path.read_bytes()[:-200])
        with suppress(MotionError):
            assert len(list(open_clip(path).glimpses([0, 11]))) <= 2


def test_a_long_movie_is_not_decoded_for_glimpses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    path, decoded = tmp_path / "long.mp4", []
    write((np.full((16, 16, 3), number % 256, np.uint8) for number in range(600)), path, 25)
    whole = movies._decoded

    def counted(*args: Any) -> Any:
        for frame in whole(*args):
            decoded.append(frame)
            yield frame

    monkeypatch.setattr(movies, "_decoded", counted)
    assert len(list(open_clip(path).glimpses([0, 300, 599]))) == 3
    assert len(decoded) <= 3 * movies._FAR
