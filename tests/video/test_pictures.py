"""Pictures as viewers show them: upright, scaled, blended, one for one file; animations with what they hold."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from motion.errors import MotionError
from motion.video import open_clip, read, write
from motion.video.files import CLIPS, MOVIES, STILLS, entries, stills

ORIENTATION = 0x0112
RAMP = np.tile(np.linspace(0, 1, 64), (8, 1))


def quarters() -> Any:
    """40 x 24: red, green, blue and black quarters."""
    pixels = np.zeros((24, 40, 3), np.uint8)
    pixels[:12, :20, 0], pixels[:12, 20:, 1], pixels[12:, :20, 2] = 255, 255, 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff"])
def test_pictures_stand_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    """Exif 2.32, section 4.6.4: where the stored first row and column are shown."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    quarters().save(tmp_path / f"a{suffix}", exif=exif, **({"lossless": True} if suffix == ".webp" else {}))
    stored = np.asarray(quarters())
    stored = stored.swapaxes(0, 1) if orientation > 4 else stored
    shown = stored[:: -1 if orientation in (3, 4, 7, 8) else 1, :: -1 if orientation in (2, 3, 6, 7) else 1]
    found = read(tmp_path / f"a{suffix}").frames[0]
    assert found.shape == shown.shape and np.abs(found.astype(int) - shown).mean() < 8


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_are_scaled(tmp_path: Path, suffix: str) -> None:
    Image.fromarray((RAMP * 65535).round().astype(np.uint16)).save(tmp_path / f"a{suffix}")
    found = read(tmp_path / f"a{suffix}").frames[0]
    assert (found == (255 * RAMP).round()[..., None]).mean() > 0.9 and np.ptp(found) == 255


@pytest.mark.parametrize(("low", "high", "dtype"), [
    (0, 1, np.float32), (2.5, 40, np.float32), (-1, 1, np.float32), (0, 1e6, np.int32), (-500, 500, np.int32)
])  # fmt: skip
def test_a_depth_ramp_is_a_ramp(tmp_path: Path, low: float, high: float, dtype: type) -> None:
    Image.fromarray((low + RAMP * (high - low)).astype(dtype)).save(tmp_path / "a.tiff")
    assert np.abs(read(tmp_path / "a.tiff").frames[0, ..., 0] - 255 * RAMP).max() <= 1


@pytest.mark.parametrize(
    "values", [np.full((4, 4), 7.0), np.full((4, 4), np.nan), np.array([[0, np.inf], [np.nan, 1]])]
)
def test_floats_without_a_range_have_a_shade(tmp_path: Path, values: np.ndarray) -> None:
    Image.fromarray(values.astype(np.float32)).save(tmp_path / "a.tiff")
    assert read(tmp_path / "a.tiff").frames.shape[3] == 3


def see_through(mode: str) -> tuple[Any, dict[str, Any]]:
    """A picture whose left half is see-through, over a hidden green, and whose right half is red."""
    picture = Image.new("RGBA", (16, 8), (0, 255, 0, 0))
    picture.paste((255, 0, 0, 255), (8, 0, 16, 8))
    if mode == "P":
        picture = picture.convert("RGB").quantize(4)
        return picture, {"transparency": picture.getpixel((0, 0))}
    if mode == "RGB":
        return picture.convert("RGB"), {"transparency": (0, 255, 0)}
    return picture.convert(mode), {}


@pytest.mark.parametrize(("mode", "suffix"), [
    ("RGBA", ".png"), ("LA", ".png"), ("P", ".png"), ("RGB", ".png"), ("P", ".gif"), ("RGBA", ".webp"),
    ("RGBA", ".tiff")
])  # fmt: skip
def test_what_transparency_hides_is_not_seen(tmp_path: Path, mode: str, suffix: str) -> None:
    picture, options = see_through(mode)
    picture.save(tmp_path / f"a{suffix}", **options, **({"lossless": True} if suffix == ".webp" else {}))
    for background, shade in (("#ffffff", 255), ("#404040", 64)):
        (found,) = open_clip(tmp_path / f"a{suffix}", background).frames()
        assert (found[:, :8] == shade).all() and (found[:, 8:, 0] > 60).all()
    half = Image.new("RGBA", (4, 4), (255, 0, 0, 51))
    half.save(tmp_path / "half.png")
    assert (read(tmp_path / "half.png").frames == (255, 204, 204)).all()


@pytest.mark.parametrize(("mode", "suffix"), [
    ("CMYK", ".jpg"), ("CMYK", ".tiff"), ("YCbCr", ".jpg"), ("L", ".jpg"), ("1", ".png"), ("1", ".bmp"), ("P", ".bmp"),
    ("P", ".tiff"),
])  # fmt: skip
def test_every_kind_of_pixel_is_read(tmp_path: Path, mode: str, suffix: str) -> None:
    picture = quarters().convert(mode)
    picture.save(tmp_path / f"a{suffix}")
    found = read(tmp_path / f"a{suffix}").frames[0].astype(int)
    assert np.abs(found - np.asarray(picture.convert("RGB"))).mean() < 8


def test_a_jpeg_with_a_second_image_is_its_first(tmp_path: Path) -> None:
    quarters().save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[Image.new("RGB", (10, 6))])
    assert read(tmp_path / "a.jpg").frames.shape == (1, 24, 40, 3)
    pages = [Image.new("RGB", (10, 6))]
    quarters().save(tmp_path / "a.tiff", save_all=True, append_images=pages)
    assert read(tmp_path / "a.tiff").frames.shape == (1, 24, 40, 3)


def animation(path: Path, durations: list[int], **options: Any) -> Path:
    """One picture for each duration, in milliseconds."""
    first, *rest = (Image.new("RGB", (8, 8), (40 * index + 1, 0, 0)) for index in range(len(durations)))
    first.save(path, save_all=True, append_images=rest, duration=durations, loop=0, **options)
    return path


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
@pytest.mark.parametrize(("durations", "copies", "fps"), [
    ([20, 20, 10000], [1, 1, 1], 50),
    ([10000, 100, 100], [1, 1, 1], 10),
    ([500, 500, 10000], [1, 1, 1], 2),
    ([1000, 1000, 5000], [1, 1, 5], 1),
    ([100, 300, 100], [1, 3, 1], 10),
    ([80, 90, 80, 80], [1, 1, 1, 1], 4000 / 330),
])  # fmt: skip
def test_a_hold_is_one_picture(
    tmp_path: Path, suffix: str, durations: list[int], copies: list[int], fps: float
) -> None:
    clip = read(animation(tmp_path / f"a{suffix}", durations, **({"lossless": True} if suffix == ".webp" else {})))
    numbers = np.repeat(range(len(copies)), copies)
    assert (clip.frames[:, 0, 0, 0] // 40).tolist() == numbers.tolist()
    assert clip.fps == pytest.approx(fps)


def test_a_gif_without_times_is_as_fast_as_browsers_play_it(tmp_path: Path) -> None:
    clip = read(animation(tmp_path / "a.gif", [0, 0, 0]))
    assert (len(clip.frames), clip.fps) == (3, 10)


def test_the_cover_of_an_animation_is_none_of_its_frames(tmp_path: Path) -> None:
    clip = read(animation(tmp_path / "a.png", [100, 100, 100], default_image=True))
    assert (clip.frames[:, 0, 0, 0] // 40).tolist() == [1, 2]


NAMES = ["3", "10", "frame 1", "frame 2", "frame 10", "frame 010a", "IMG_9 (1)", "img_9 (2)", "IMG_9 (10)", "IMG_010"]


def test_frames_are_played_by_their_numbers_and_leftovers_are_none(tmp_path: Path) -> None:
    for suffix in (".png", ".PNG", ".jpg"):
        folder = tmp_path / suffix
        folder.mkdir()
        for shade in (12, 1, 10, 2, 3):
            Image.new("L", (4, 4), shade * 10).save(folder / f"a{shade}b{suffix}", quality=95)
        for name in ("._a1b.png", ".hidden.png", "Thumbs.db", "desktop.ini"):
            (folder / name).write_bytes(b"\0\5\x16\7")
        (folder / "__MACOSX").mkdir()
        assert read(folder).frames[:, 0, 0, 0].tolist() == pytest.approx([10, 20, 30, 100, 120], abs=1)
    (tmp_path / "names").mkdir()
    for name in reversed(NAMES):
        (tmp_path / "names" / f"{name}.png").touch()
    assert [path.stem for path in entries(tmp_path / "names")] == NAMES


def test_a_folder_holds_stills(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
    animation(tmp_path / "1.png", [100, 100])
    with pytest.raises(MotionError, match=r"1\.png moves"):
        read(tmp_path)


def test_the_finder_lists_what_the_reader_opens(tmp_path: Path) -> None:
    kinds = {".jfif": "JPEG", ".apng": "PNG"}
    for suffix in set(CLIPS) - set(MOVIES):
        quarters().save(tmp_path / f"a{suffix}", format=kinds.get(suffix))
        assert len(read(tmp_path / f"a{suffix}").frames) == 1
    assert {path.suffix for path in stills(tmp_path)} == set(STILLS)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    Image.new("1", (8193, 8192)).save(file, "PNG")
    (tmp_path / "a.png").write_bytes(file.getvalue())
    with pytest.raises(MotionError, match="is 8193x8192: give one of 64 megapixels at most"):
        open_clip(tmp_path / "a.png")
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 8192 * 8192 // 2)
    with pytest.raises(MotionError, match="is too large: give one of 64 megapixels at most"):
        open_clip(tmp_path / "a.png")


def test_one_picture_is_the_same_in_every_format(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    write(pixels[None], tmp_path / "a.png", 8)
    for name in ("a.webp", "a.bmp", "a.tiff"):
        Image.fromarray(pixels).save(tmp_path / name, **({"lossless": True} if name == "a.webp" else {}))
        assert (read(tmp_path / name).frames == read(tmp_path / "a.png").frames).all()
