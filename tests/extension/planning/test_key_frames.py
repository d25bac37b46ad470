"""Key frames of the tab: images by their digits, frames by their words, and what the strip is answered."""

from __future__ import annotations

import base64
import io
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from safetensors.torch import save_file

from motion.errors import MotionError
from motion.extension.page import strip
from motion.extension.planning import key_frame_images, key_frames
from motion.extension.planning.key_frames import place_key_frames
from motion.models.motion.architecture import Architecture
from motion.settings.key_frames import KeyFrame
from motion.settings.tab import Tab
from sparsectrl.encoder import Shape, SparseEncoder

SHAPES: dict[str, dict[str, Any]] = {
    "rgb": {}, "scribble": {"condition": 3, "embedding": (16, 32, 32, 32)}
}  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoders")
    for kind, shape in SHAPES.items():
        save_file(SparseEncoder(Shape((32, 64), 32, **shape)).state_dict(), folder / f"{kind}.safetensors")
    return folder


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path) -> Path:
    """A host whose data folder is this; RGB lies among the motion modules, scribble among ControlNet's."""
    for kind, folder in {"rgb": "motion", "scribble": "ControlNet"}.items():
        (tmp_path / "models" / folder).mkdir(parents=True)
        (tmp_path / "models" / folder / f"{kind}.safetensors").symlink_to(weights / f"{kind}.safetensors")
    options = SimpleNamespace(data={}, img2img_background_color="#ffffff")
    arguments = SimpleNamespace(gradio_allowed_path=[str(tmp_path / "pictures")])
    shared = SimpleNamespace(opts=options, cmd_opts=arguments)
    pretend = {
        "shared": shared,
        "paths": SimpleNamespace(models_path=str(tmp_path / "models"), data_path=str(tmp_path / "data")),
        "images": SimpleNamespace(flatten=flattened),
        "devices": SimpleNamespace(dtype_unet=torch.float32),
    }
    monkeypatch.setitem(sys.modules, "modules", ModuleType("modules"))
    for name, content in pretend.items():
        monkeypatch.setitem(sys.modules, f"modules.{name}", content)  # type: ignore[arg-type]
    return tmp_path


def flattened(image: Any, colour: str) -> Any:
    """As the host does it."""
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, colour), image)
    return image.convert("RGB")


def file_of(image: Any, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


RED = Image.new("RGB", (4, 2), "red")


def test_there_is_room_for_images_that_are_used(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was used longest ago goes, with what was left half written; what is in use stays, and more is refused."""
    colours = ("red", "green", "blue")
    digits = [key_frame_images.keep(file_of(Image.new("RGB", (4, 2), colour))) for colour in colours]
    files = [key_frame_images.path(one) for one in digits]
    monkeypatch.setattr(key_frame_images, "MOST_KEPT", 3 * max(file.stat().st_size for file in files) + 9)
    left = files[0].with_name("0.1.partial")
    left.write_bytes(b"half")
    for file in (*files, left):
        os.utime(file, (0, 0))
    key_frame_images.pixels_of(digits[0])
    key_frame_images.keep(file_of(Image.new("RGB", (4, 2), "green")))
    last = key_frame_images.path(key_frame_images.keep(file_of(Image.new("RGB", (4, 2), "white"))))
    assert set(last.parent.iterdir()) == {files[0], files[1], last}
    with pytest.raises(MotionError, match="of the last hour take up"):
        key_frame_images.keep(file_of(Image.new("RGB", (4, 2), "black")))
    assert set(last.parent.iterdir()) == {files[0], files[1], last}
    with pytest.raises(MotionError, match="not kept any more: give the picture again"):
        key_frame_images.path(digits[2])


def test_the_same_picture_has_the_same_digits_however_it_comes(host: Path) -> None:
    parameters = PngImagePlugin.PngInfo()
    parameters.add_text("parameters", "Steps: 3")
    digits = key_frame_images.keep(file_of(RED))
    for other in (file_of(RED, pnginfo=parameters), file_of(RED, "BMP")):
        assert key_frame_images.keep(other) == digits
    (host / "pictures").mkdir()
    (host / "pictures" / "red.png").write_bytes(file_of(RED))
    encoded = base64.b64encode(file_of(RED)).decode()
    for text in (digits, encoded, f"data:image/png;base64,{encoded}", str(host / "pictures" / "red.png")):
        assert key_frame_images.digits_of(text) == digits
    assert (key_frame_images.pixels_of(digits) == np.asarray(RED)).all()
    assert [file.name for file in (host / "data" / key_frame_images.FOLDER).iterdir()] == [f"{digits}.png"]


def test_turned_and_transparent_pictures_are_what_a_viewer_shows(host: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    assert key_frame_images.pixels_of(key_frame_images.keep(file_of(RED, exif=exif))).shape == (4, 2, 3)
    clear = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert (key_frame_images.pixels_of(key_frame_images.keep(file_of(clear))) == 255).all()
    palette = Image.new("P", (2, 2))
    assert (key_frame_images.pixels_of(key_frame_images.keep(file_of(palette, "GIF", transparency=0))) == 255).all()


@pytest.mark.parametrize("data", [b"", b"no picture", file_of(RED)[:40], b"<svg/>"])
def test_what_is_no_picture_is_refused(host: Path, data: bytes) -> None:
    with pytest.raises(MotionError, match="no picture"):
        key_frame_images.keep(data)
    assert not (host / "data").exists()


def test_large_pictures_are_refused(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motion.video.pictures.MOST_PIXELS", 7)
    with pytest.raises(MotionError, match="key image is 4x2"):
        key_frame_images.keep(file_of(RED))
    monkeypatch.setattr(key_frame_images, "MOST_BYTES", 7)
    with pytest.raises(MotionError, match="more than"):
        key_frame_images.keep(file_of(RED))


def test_other_files_of_the_machine_are_not_read(host: Path) -> None:
    for place in (host / "red.png", host / "pictures" / ".." / "red.png"):
        (host / "red.png").write_bytes(file_of(RED))
        with pytest.raises(MotionError, match="no picture"):
            key_frame_images.digits_of(str(place))
    (host / "pictures").mkdir()
    (host / "pictures" / "link.png").symlink_to(host / "red.png")
    with pytest.raises(MotionError, match="no picture"):
        key_frame_images.digits_of(str(host / "pictures" / "link.png"))
    with pytest.raises(MotionError, match="does not exist"):
        key_frame_images.digits_of(str(host / "pictures" / "none.png"))


@given(st.text(min_size=1))
@example("0000")
def test_any_text_for_an_image_is_refused(text: str) -> None:
    """Where it happens to be base64, it is none of a picture."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_frame_images, "allowed_folders", lambda: [Path("/nowhere")])
        patch.setattr(key_frame_images, "folder", lambda: Path("/nowhere"))
        with pytest.raises(MotionError, match="key image"):
            key_frame_images.digits_of(text)


def test_words_share_the_frames_out_and_numbers_stand_alone() -> None:
    images = [KeyFrame(frame, "x") for frame in ("uniform", "3", "uniform", "-2", "uniform")]
    assert place_key_frames(images, 16) == [0, 3, 7, 14, 15]
    assert place_key_frames([KeyFrame("0,8,-1", "x")] * 3, 16) == [0, 8, 15]


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (["0", "0"], "key frame 0 stands twice"),
        (["15", "-1"], "key frame 15 stands twice"),
        (["16"], "key frame 16 is out of range"),
        (["0,8"], "0,8 names 2 frames for 1 images"),
        (["somewhere"], "'somewhere' is no frame"),
    ],
)
def test_frames_that_cannot_be_are_named(frames: list[str], words: str) -> None:
    with pytest.raises(MotionError, match=words):
        place_key_frames([KeyFrame(frame, "x") for frame in frames], 16)


def test_a_tab_becomes_controls_with_their_encoders(host: Path) -> None:
    picture = base64.b64encode(file_of(RED)).decode()
    given = [("-1", picture, "rgb", 0.5), ("2", picture, "ControlNet/scribble.safetensors"), ("0", picture, "rgb")]
    tab = key_frames.settle_pictures(Tab(frames=8, key_frames=given))  # type: ignore[arg-type]
    digits = key_frame_images.keep(file_of(RED))
    assert tab.key_frames == (
        KeyFrame("-1", digits, "rgb", 0.5), KeyFrame("2", digits, "scribble"), KeyFrame("0", digits, "rgb")
    )  # fmt: skip
    (rgb, rgb_encoder), (scribble, _) = key_frames.load(tab)
    assert (rgb.file.stem, list(rgb.images), rgb.strength) == ("rgb", [0, 7], {7: 0.5})
    assert (scribble.file.stem, list(scribble.images)) == ("scribble", [2])
    assert rgb_encoder is key_frames.load(tab)[0][1], "the last ones stay in memory"
    assert key_frames.settle_pictures(Tab()) == Tab() and key_frames.load(Tab()) == []


def test_an_encoder_must_be_named_where_there_are_several(host: Path) -> None:
    tab = Tab(key_frames=[{"frame": 0, "image": base64.b64encode(file_of(RED)).decode()}])  # type: ignore[arg-type]
    with pytest.raises(MotionError, match=r"names no SparseCtrl encoder: one of rgb, scribble"):
        key_frames.settle_pictures(tab)
    (host / "models" / "ControlNet" / "scribble.safetensors").unlink()
    assert key_frames.settle_pictures(tab).key_frames[0].encoder == "rgb"
    (host / "models" / "motion" / "rgb.safetensors").unlink()
    with pytest.raises(MotionError, match="put one into"):
        key_frames.settle_pictures(tab)


def asked(*given: dict[str, Any], **more: Any) -> dict[str, Any]:
    digits = key_frame_images.keep(file_of(RED))
    return strip.answer({"frames": 16, "key_frames": [{"image": digits, **key} for key in given], **more})


def test_the_strip_finds_a_place_and_an_encoder_for_new_pictures(host: Path) -> None:
    answer = asked({}, {}, {}, {"frame": "3", "encoder": "scribble", "strength": 2})
    assert [key["frame"] for key in answer["key_frames"]] == ["0", "3", "7", "-1"]
    assert (answer["places"], answer["problem"]) == ([0, 3, 7, 15], "")
    assert [key["encoder"] for key in answer["key_frames"]] == ["rgb", "scribble", "rgb", "rgb"]
    assert answer["kinds"] == {"rgb": "RGB", "scribble": "scribble"}


def test_a_preset_places_all_of_them_anew(host: Path) -> None:
    answer = asked({"frame": "5", "encoder": "scribble"}, {"frame": "9"}, preset="pair")
    assert [(key["frame"], key["encoder"]) for key in answer["key_frames"]] == [("0", "rgb"), ("-1", "rgb")]
    assert [key["encoder"] for key in asked({}, preset="sketch")["key_frames"]] == ["scribble"]
    refused = asked({"frame": "5"}, preset="pair")
    assert refused["places"] == [5] and "A to B takes 2 images" in refused["problem"]
    (host / "models" / "ControlNet" / "scribble.safetensors").unlink()
    assert "Sketch to video takes a scribble encoder" in asked({}, preset="sketch")["problem"]


def test_the_strip_says_what_is_wrong_and_shows_the_rest(host: Path) -> None:
    twice = asked({"frame": "2"}, {"frame": "2"}, {"frame": "99"})
    assert twice["places"] == [0, 2, 2] and "99 is out of range" in twice["problem"]
    assert "is not kept any more" in asked({"image": "0123456789abcdef"})["problem"]
    for wrong in ([], {"frames": 0}, {"frames": 4, "key_frames": ["x"]}, {"frames": 4, "key_frames": {"x": 1}}):
        with pytest.raises(MotionError):
            strip.answer(wrong)  # type: ignore[arg-type]
    assert ["99 is out of range" in problem for problem in twice["problems"]] == [True, False, False]
    with pytest.raises(MotionError, match="strength 0 is out of range"):
        asked({"strength": 0})
    with pytest.raises(MotionError, match="frame abc! is no place in the clip: give 0 to 15"):
        asked({"frame": "abc!"})


@pytest.mark.parametrize("at_once", [True, False])
def test_pictures_keep_the_order_in_which_they_came(host: Path, at_once: bool) -> None:
    """Each new one stands behind the last, whatever room there is, and a storyboard keeps that order."""
    pictures = [
        {"image": key_frame_images.keep(file_of(Image.new("RGB", (4, 2), (shade, 0, 0))))}
        for shade in (10, 60, 110, 160, 210)
    ]
    shown: list[dict[str, Any]] = []
    for added in [pictures] if at_once else [[picture] for picture in pictures]:
        shown = strip.answer({"frames": 16, "key_frames": [*shown, *added]})["key_frames"]
    given = [picture["image"] for picture in pictures]
    assert [key["image"] for key in shown] == given
    assert [key["frame"] for key in shown] == ["0", "3", "7", "11", "-1"]
    board = strip.answer({"frames": 16, "key_frames": shown, "preset": "storyboard"})["key_frames"]
    assert [key["image"] for key in board] == given


def test_a_new_picture_leaves_the_others_where_they_are_while_there_is_room(host: Path) -> None:
    first = {"image": key_frame_images.keep(file_of(RED)), "frame": "5"}
    shown = strip.answer({"frames": 16, "key_frames": [first, {"image": first["image"]}]})["key_frames"]
    assert [key["frame"] for key in shown] == ["5", "-1"]
    (alone,) = strip.answer({"frames": 1, "key_frames": [{"image": first["image"]}]})["key_frames"]
    assert alone["frame"] == "0"


def test_the_strips_frame_names_every_preset_and_part() -> None:
    html = strip.frame("the_text", "the_frames")
    assert all(f'data-preset="{name}"' in html for name in strip.PRESETS)
    assert all(f'data-part="{name}"' in html for name in ("frame", "strength", "encoder"))
    assert 'data-text="the_text"' in html and 'data-frames="the_frames"' in html


def test_held_key_frames_need_no_encoder(host: Path) -> None:
    """At a scale of 0 they are pictures only, whatever encoder they name and wherever it is."""
    encoded = base64.b64encode(file_of(RED)).decode()
    keys = [{"frame": 0, "image": encoded}, {"frame": -1, "image": encoded, "encoder": "absent"}]
    tab = key_frames.settle_pictures(Tab(key_frames=keys, hold_keys="clean", key_scale=0.0, frames=4))  # type: ignore[arg-type]
    assert [key.is_kept for key in tab.key_frames] == [True, True]
    ((control, encoder),) = key_frames.load(tab)
    assert (control.file, encoder, list(control.images)) == (None, None, [0, 3])
    with pytest.raises(MotionError, match="names no SparseCtrl encoder"):
        key_frames.settle_pictures(Tab(key_frames=keys, hold_keys="noised"))  # type: ignore[arg-type]


def test_a_clip_that_goes_on_is_shown_to_an_encoder_that_fits(host: Path) -> None:
    """One of pictures, of the base and the widths of what the module moves, unless key frames are not to act."""

    def moves(family: str, *widths: int) -> Any:
        return SimpleNamespace(architecture=Architecture.of_unet(family, widths))

    assert key_frames.fits_usual_encoder(moves("v3", 32, 64), 1.0)
    assert key_frames.fits_usual_encoder(moves("v2", 32, 64), "0: 1, -1: 0.5")
    for module, scale in (
        (moves("v3", 32, 64), 0.0), (moves("v3", 32, 64, 128), 1.0), (moves("sdxl", 32, 64), 1.0), (None, 1.0)
    ):  # fmt: skip
        assert not key_frames.fits_usual_encoder(module, scale)
    (host / "models" / "motion" / "rgb.safetensors").unlink()
    assert list(key_frames.encoders()) == ["scribble"]
    assert not key_frames.fits_usual_encoder(moves("v3", 32, 64), 1.0)
