"""The source clip of a request and of the page: where it may lie, and what follows it."""

from __future__ import annotations

import sys
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from motion.errors import MotionError
from motion.extension import finish
from motion.extension.planning import source
from motion.fields.table import Size
from motion.hosts.finish import shown_pixels
from motion.settings.tab import Tab
from motion.video.write import write

FRAMES, RATE = 12, 24


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The host's data folder, with a clip in it."""
    folder = tmp_path / "data"
    (folder / "clips").mkdir(parents=True)
    frames = (np.full((64, 96, 3), 20 * number, np.uint8) for number in range(FRAMES))
    write(frames, folder / "clips" / "clip.webp", RATE, "")
    modules = {
        "paths": SimpleNamespace(data_path=str(folder)),
        "shared": SimpleNamespace(
            cmd_opts=SimpleNamespace(gradio_allowed_path=[]), opts=SimpleNamespace(temp_dir=str(tmp_path / "temp"))
        ),
    }
    monkeypatch.setitem(sys.modules, "modules", ModuleType("modules"))
    for name, content in modules.items():
        monkeypatch.setitem(sys.modules, f"modules.{name}", content)  # type: ignore[arg-type]
    return folder


CLIP = {"source": "clips/clip.webp"}


def test_frames_and_rate_follow_unless_they_are_named(data: Path) -> None:
    assert source.follow(CLIP) == {**CLIP, "frames": FRAMES, "fps": pytest.approx(RATE, rel=0.01)}
    third = source.follow({**CLIP, "source_every": 3, "source_range": "0-9", "fps": 5})
    assert (third["frames"], third["fps"]) == (4, 5)
    halved = source.follow({**CLIP, "source_fps": 12})
    assert (halved["frames"], halved["fps"]) == (6, 12)
    for given in ({"frames": 3, "fps": 2.0, **CLIP}, {"enabled": False, "source": "gone"}, {"frames": 3}, {}):
        assert source.follow(given) == given
    Image.new("RGB", (64, 64)).save(data / "still.png")
    assert source.follow({"source": "still.png"}) == {"source": "still.png"}


def test_it_lies_where_the_page_may_read(data: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.webp"
    outside.write_bytes((data / "clips" / "clip.webp").read_bytes())
    (data / "link.webp").symlink_to(outside)
    for text in (str(outside), "../outside.webp", "link.webp", "/etc/passwd", "x" * 5000, "a\0b"):
        with pytest.raises(MotionError, match="may not read"):
            source.find(text)
    with pytest.raises(MotionError, match=r"gone\.mp4 does not exist"):
        source.find("gone.mp4")
    assert source.find(str(data / "clips" / "clip.webp")) == source.find("clips/clip.webp")
    upload = tmp_path / "temp" / "upload.webp"
    upload.parent.mkdir(exist_ok=True)
    upload.write_bytes(outside.read_bytes())
    assert source.find(str(upload)) == upload


def test_a_mask_is_of_the_frames_that_are_used(data: Path) -> None:
    masks = (np.full((64, 64, 3), 10 * number, np.uint8) for number in range(FRAMES))
    write(masks, data / "mask.webp", RATE, "")
    Image.new("L", (64, 64), 200).save(data / "mask.png")
    p = SimpleNamespace(init_images=[None], inpaint_full_res=False)
    tab = Tab(**CLIP, source_range="3-", source_every=2, mask_clip="mask.webp")
    mask = source.open_mask(p, tab, source.open_source(tab))
    assert mask is not None and [round(frame.mean() / 10) for frame in mask.pictures(3)] == [3, 5, 7]
    still = source.open_mask(p, Tab(**CLIP, mask_clip="mask.png"), source.open_source(tab))
    assert still is not None and [round(frame.mean()) for frame in still.pictures(2)] == [200, 200]
    assert source.open_mask(p, Tab(**CLIP), None) is None
    for wrong, said in (({}, "of a source clip"), ({"init_images": [], "inpaint_full_res": True}, "whole")):
        with pytest.raises(MotionError, match=said):
            source.open_mask(SimpleNamespace(**wrong), tab, None)


def test_only_what_a_mask_shows_is_drawn_and_put_back(data: Path) -> None:
    """As large as the clip; outside the pictures are the source's, bit by bit, and within what was drawn."""
    masks = np.zeros((FRAMES, 64, 96, 3), np.uint8)
    for number, mask in enumerate(masks):
        mask[10:20, 10 + number : 20 + number] = 255
    write(iter(masks), data / "mask.webp", RATE, "")
    p = SimpleNamespace(init_images=[None], inpaint_full_res=True, inpaint_full_res_padding=2)
    tab = Tab(**CLIP, frames=FRAMES, mask_clip="mask.webp")
    clip = source.open_source(tab)
    detail = source.open_kept(p, tab, clip)
    assert detail is not None and clip is not None and source.open_mask(p, tab, clip) is not None
    shown = list(detail.masks(FRAMES, Size(64, 64), 0))
    assert all(mask.mean() > 100 and mask[32, 32] == 255 for mask in shown), "it fills the box"
    images = [torch.full((3, 64, 64), 200 / 255) for _ in range(FRAMES)]
    p.mask_blur = 0
    finish.put_back(detail, p, images)
    whole = [shown_pixels(image) for image in images]
    for frame, mask, before in zip(whole, masks[..., 0] > 0, clip.pictures(FRAMES), strict=True):
        assert frame.shape == (64, 96, 3) and (frame[mask] == 200).all() and (frame[~mask] == before[~mask]).all()
    assert source.open_kept(SimpleNamespace(init_images=[None], inpaint_full_res=False), tab, clip) is None
    assert source.open_kept(p, tab, None) is None
    in_txt2img = source.open_kept(SimpleNamespace(), tab, clip)
    assert in_txt2img is not None and in_txt2img.mask == data / "mask.webp"
    with pytest.raises(MotionError, match="drawn of a source clip"):
        source.open_mask(p, Tab(mask_clip="mask.webp"), None)


class Predicted:
    def __init__(self, *masks: Any) -> None:
        self.masks = masks


def adetailer(asked: list[Any]) -> ModuleType:
    """A script with the layout of ADetailer's; its detectors find all that is lighter than 100, in two halves."""
    script: Any = ModuleType("!adetailer")

    def predict(model: str, image: Any, confidence: float, device: str = "") -> Predicted:
        asked.append((model, image.size, confidence, device))
        level = image.getpixel((0, 0))[0]
        left, right = Image.new("L", image.size), Image.new("L", image.size)
        left.paste(level, (0, 0, 20, 10)), right.paste(level, (20, 0, 30, 10))
        return Predicted(*[left, right][: 2 * (60 <= level <= 100)])

    script.model_mapping = {"face_yolov8n.pt": "/models/face_yolov8n.pt", "mediapipe_face_full": "mediapipe_face_full"}
    script.ultralytics_predict = script.mediapipe_predict = predict
    script.disable_safe_unpickle = nullcontext
    script.AfterDetailerScript = SimpleNamespace(get_ultralytics_device=lambda: "cpu")
    return script


def test_adetailer_finds_masks_in_the_frames_that_are_used(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it misses a frame the mask before it stands, before the first the first."""
    asked: list[Any] = []
    script, scripts = adetailer(asked), SimpleNamespace(scripts_data=[])
    monkeypatch.setitem(sys.modules, "modules.scripts", scripts)  # type: ignore[arg-type]
    tab = Tab(**CLIP, source_range="1-", source_every=2, frames=5, mask_detector="face_yolov8n.pt")
    clip = source.open_source(tab)
    with ExitStack() as undo, pytest.raises(MotionError, match="this WebUI has not: install it"):
        source.detect_masks(tab, clip, undo)
    scripts.scripts_data.append(SimpleNamespace(path="/extensions/adetailer/scripts/!adetailer.py", module=script))
    p = SimpleNamespace(init_images=[None], inpaint_full_res=False)
    with ExitStack() as undo:
        found = source.detect_masks(tab, clip, undo)
        mask = source.open_mask(p, found, clip)
        assert mask is not None and mask.path.exists()
        shown = list(mask.pictures(5))
        assert [int(frame[5, 5, 0]) for frame in shown] == [60, 60, 100, 100, 100]
        assert all((frame[5, 25] == frame[5, 5]).all() and frame[5, 35].max() == 0 for frame in shown)
    assert not mask.path.exists()
    assert asked == [("/models/face_yolov8n.pt", (96, 64), 0.3, "cpu")] * 5
    assert source.detect_masks(Tab(**CLIP), clip, ExitStack()) == Tab(**CLIP)
    for change, with_clip, said in (
        ({"mask_clip": "mask.webp"}, True, "leave one of them out"),
        ({"mask_detector": "hand.pt"}, True, "choose one of face_yolov8n.pt, mediapipe_face_full"),
        ({"mask_detector": "mediapipe_face_full", "frames": 1}, True, "finds nothing in 1 frames"),
        ({}, False, "give one with Video to video"),
    ):
        with ExitStack() as undo, pytest.raises(MotionError, match=said):
            source.detect_masks(replace(tab, **change), clip if with_clip else None, undo)
    del script.disable_safe_unpickle
    with ExitStack() as undo, pytest.raises(MotionError, match="update it"):
        source.detect_masks(tab, clip, undo)


def test_a_clip_is_led_over_to_another(data: Path, tmp_path: Path) -> None:
    write((np.full((64, 64, 3), 200 + number, np.uint8) for number in range(4)), data / "onto.webp", RATE, "")
    tab = Tab(**CLIP, extend=3, connect="onto.webp", frames=8)
    connected = source.open_continuation(tab, source.open_source(tab), Size(64, 64))
    assert connected is not None and list(connected.images()) == [0, 1, 2, 5, 6, 7]
    assert connected.have == FRAMES + 4
    for change, said in (
        ({"extend": 0}, "goes on"),
        ({"frames": 6}, "6 are given"),
        ({"extend_to": 40}, "drawn once"),
        ({"connect": str(tmp_path / "onto.webp")}, "may not read"),
    ):
        asked = replace(tab, **change)  # type: ignore[arg-type]
        with pytest.raises(MotionError, match=said):
            source.open_continuation(asked, source.open_source(asked), Size(64, 64))


def test_every_nth_frame_is_a_key_frame_and_what_feeds_nothing_is_refused(data: Path) -> None:
    tab = Tab(**CLIP, source_keys=5, frames=FRAMES, source_latents=False)
    keys = source.key_images(source.open_source(tab), tab, Size(64, 64))
    assert {frame: round(image.mean()) for frame, image in keys.items()} == {0: 0, 5: 100, 10: 200}
    with pytest.raises(MotionError, match="feeds nothing"):
        source.key_images(source.open_source(tab), Tab(**CLIP, source_latents=False), Size(64, 64))
    assert source.key_images(None, tab, Size(64, 64)) == {}
    assert source.describe(source.open_source(tab))["Motion source hash"]
    with pytest.raises(MotionError, match="12 frames and the clip 13"):
        longer: dict[str, Any] = {**CLIP, "source_keys": 1, "frames": FRAMES + 1}
        source.key_images(source.open_source(tab), Tab(**longer), Size(64, 64))


def test_it_is_shown_as_a_strip(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's line and pictures; of a still one, of a file that is no clip the reason."""
    monkeypatch.setitem(sys.modules, "gradio", ModuleType("gradio"))
    from motion.extension.page import source_row

    Image.new("RGB", (64, 64)).save(data / "still.png")
    (data / "broken.mp4").write_bytes(b"\0\0\0\x20ftypisom")
    for path, span, pictures, said in (
        ("clips/clip.webp", "", source_row.GLIMPSES, "clip.webp: 12 frames at 24"),
        ("clips/clip.webp", "2-3", 2, "clip.webp: 2 frames at 24"),
        ("still.png", "", 1, "still.png: 1 frame, drawn"),
        ("broken.mp4", "", 0, "is no clip that can be read"),
        ("", "", 0, ""),
    ):
        text = source_row.describe(path, span, 1, 0.0, 0)
        assert (text.count("<img"), said in text) == (pictures, True)


def test_the_hosts_interrogator_writes_what_is_missing(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the middle frame; what has been written by hand stays."""
    monkeypatch.setitem(sys.modules, "gradio", ModuleType("gradio"))
    from motion.extension.page import source_row

    said = SimpleNamespace(interrogate=lambda picture: f"grey\n {picture.getpixel((0, 0))[0]}")
    monkeypatch.setattr(sys.modules["modules.shared"], "interrogator", said, raising=False)
    monkeypatch.setitem(sys.modules, "modules.call_queue", SimpleNamespace(queue_lock=nullcontext()))  # type: ignore[arg-type]
    write(np.zeros((1, 8, 8, 3), np.uint8), data / "clips" / "own.webp", RATE, "")
    (data / "clips" / "own.txt").write_text("mine")
    assert source_row.has_interrogator() and "written: 1." in source_row.write_captions("clips")
    assert (data / "clips" / "clip.txt").read_text() == f"grey {20 * (FRAMES // 2)}\n"
    assert (data / "clips" / "own.txt").read_text() == "mine"
    assert "written: 0." in source_row.write_captions("clips")
    for path, reason in (("clips/clip.webp", "is no folder"), ("/etc", "may not read")):
        assert reason in source_row.write_captions(path)
    (data / "clips" / "clip.txt").unlink()
    said.interrogate = lambda picture: "a<error>"
    assert "could not describe" in source_row.write_captions("clips") and not (data / "clips" / "clip.txt").exists()
    monkeypatch.delattr(sys.modules["modules.shared"], "interrogator")
    assert not source_row.has_interrogator()
