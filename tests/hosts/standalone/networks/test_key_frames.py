"""Key frames in the standalone host: from options and images to what the encoder is shown, and what the clip says."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import sparsectrl
from motion.cli import main as cli
from motion.errors import MotionError
from motion.fields.table import Size
from motion.hosts.controls import Control, condition, describe_controls, fit_image
from motion.hosts.standalone import Networks, Standalone
from motion.hosts.standalone.networks.key_frames import gather
from motion.hosts.standalone.vae import encode
from motion.models.motion.model import MotionModel
from motion.settings.parameters import parse_infotext
from motion.settings.settings import Clip
from motion.weights.describe import describe
from sparsectrl.encoder import Shape, SparseEncoder

CLIP = Clip(prompt="a red circle", frames=3, steps=2, seed=1, size=Size(64, 64))
SHAPES = {
    "rgb": {},
    "scribble": {"condition": 3, "embedding": (16, 32, 32, 32)},
    "depth": {"condition": 1, "embedding": (16, 32, 32, 32)},
}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Encoders for the tiny checkpoint, one of them untrained, and images of several sizes."""
    folder = tmp_path_factory.mktemp("keys")
    torch.manual_seed(4)
    for kind, shape in SHAPES.items():
        encoder = SparseEncoder(Shape((32, 64, 64, 64), 32, **shape))
        save_file(encoder.state_dict(), folder / f"{kind}-untrained.safetensors")
        for parameter in encoder.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.2)
        save_file(encoder.state_dict(), folder / f"{kind}.safetensors")
    (folder / "several").mkdir()
    for name, size in {"a.png": (90, 64), "b.png": (64, 64), "several/0.png": (8, 8), "several/1.png": (8, 8)}.items():
        Image.effect_noise(size, 60).convert("RGB").save(folder / name)
    return folder


@pytest.fixture(scope="module")
def host(tiny: Path) -> Standalone:
    return Standalone.open(tiny / "sd15.safetensors", device="cpu")


def options(room: Path, *texts: str) -> list[Any]:
    """`rgb` and `0=a.png` as the options they stand for."""
    pairs = [text.partition("=") for text in texts]
    return [
        ("keyframe", f"{name}={room / rest}") if equals else ("sparsectrl", str(room / f"{name}.safetensors"))
        for name, equals, rest in pairs
    ]


def test_key_frames_belong_to_the_encoder_before_them(room: Path) -> None:
    one, two = gather(options(room, "rgb", "0=a.png", "-1=b.png=0.5", "scribble", "1=b.png"), frames=16)
    assert (one.file.stem, list(one.images), one.strength) == ("rgb", [0, 15], {15: 0.5})
    assert (two.file.stem, list(two.images), two.strength) == ("scribble", [1], {})
    assert one.images[0].shape == (64, 90, 3)
    (late,) = gather(options(room, "2=a.png", "rgb", "0=a.png"), frames=16)
    assert list(late.images) == [0, 2]
    (spread,) = gather(options(room, "rgb", "uniform=several"), frames=16)
    assert list(spread.images) == [0, 15]


def test_held_key_frames_need_no_encoder(room: Path) -> None:
    """What the scale of 0 leaves out is not looked for."""
    for texts in (["0=a.png", "-1=b.png"], ["absent", "0=a.png", "-1=b.png"]):
        (held,) = gather(options(room, *texts), frames=16, unseen=True)
        assert (held.file, list(held.images)) == (None, [0, 15])
    assert gather([], frames=16, unseen=True) == []


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["0=a.png"], "has no encoder: give a SparseCtrl file with --sparsectrl"),
        (["rgb"], "has no key image: give one with --keyframe FRAME=IMAGE"),
        (["none", "0=a.png"], "does not exist: give a SparseCtrl encoder file"),
        (["rgb", "0=none.png"], "none.png does not exist"),
        (["rgb", "0=rgb.safetensors"], "is no clip that can be read"),
        (["rgb", "3=a.png"], "key frame 3 is out of range: the clip has frames 0 to 2"),
        (["rgb", "2=a.png", "-1=b.png"], "key frame 2 stands twice"),
        (["rgb", "0=several"], "0 names 1 frames for 2 images"),
        (["rgb", "0=a.png=strong"], "key frame strength is 'strong'"),
        (["rgb", "0=a.png=0"], "key frame strength is 0"),
        (["rgb", "0=a.png=@0: 0, @1: 0"], "key frame strength is @0: 0"),
        (["rgb", "0=a.png=0: 1, 99: 0"], "99 is not in a clip"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(texts: list[str], words: str, room: Path) -> None:
    with pytest.raises(MotionError) as caught:
        gather(options(room, *texts), frames=3)
    assert words in str(caught.value)


def test_images_are_cropped_or_padded_to_the_clip() -> None:
    left, right = np.full((64, 64, 3), 50, np.uint8), np.full((64, 64, 3), 200, np.uint8)
    wide = np.concatenate([left, right], axis=1)
    cropped = fit_image(wide, Size(64, 64), "crop")
    padded = fit_image(wide, Size(64, 64), "pad")
    assert cropped.shape == padded.shape == (64, 64, 3)
    assert (cropped[:, 0] == 50).all() and (cropped[:, -1] == 200).all()
    assert not padded[0].any() and (padded[32, 0] == 50).all()
    assert (fit_image(left, Size(64, 64), "crop") == left).all()


@pytest.mark.parametrize("kind", SHAPES)
def test_an_encoder_is_shown_what_its_file_asks_for(kind: str, room: Path, host: Standalone) -> None:
    control = gather(options(room, kind, "1=b.png=0.5"), CLIP.frames)[0]
    encoder, vae = sparsectrl.load(control.file), host.parts.vae
    with torch.inference_mode():
        shown = condition(control, encoder, partial(encode, vae), CLIP, CLIP.size, CLIP.frames)
        pixels = torch.from_numpy(np.array(Image.open(room / "b.png"))).permute(2, 0, 1) / 255
        expected = {
            "rgb": lambda: vae.encode(2 * pixels[None] - 1).latent_dist.mean[0] * 0.18215,
            "scribble": lambda: pixels,
            "depth": lambda: pixels.mean(0, keepdim=True),
        }[kind]()
    assert torch.equal(shown[1, :-1], 0.5 * expected)
    assert (shown[1, -1] == 0.5).all() and not shown[[0, 2]].any()


def test_a_clip_with_two_encoders_from_files_to_file(
    tiny: Path, room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["render", "--checkpoint", str(tiny / "sd15.safetensors"), "--motion", str(tiny / "v3.safetensors")]
    command += ["--prompt", "a", "--steps", "2", "--frames", "3", "--size", "64x64", "--seed", "1", "--device", "cpu"]
    command += ["--sparsectrl", str(room / "rgb.safetensors"), "--keyframe", f"0={room / 'a.png'}"]
    command += ["--keyframe", f"-1={room / 'b.png'}=0.5", "--sparsectrl", str(room / "scribble.safetensors")]
    command += ["--keyframe", f"1={room / 'b.png'}", "--key-scale", "0.8", "--key-end", "0.9"]
    assert cli.main([*command, "--out", str(tmp_path / "clip.gif"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    clip, extra = parse_infotext(report["parameters"])
    assert (clip.key_scale, clip.key_end, clip.key_start) == (0.8, 0.9, 0.0)
    assert (extra["SparseCtrl"], extra["Key frames"]) == ("rgb; scribble", "0 2=0.5; 1")
    hashes = [str(describe(room / f"{name}.safetensors")["sha256"])[:10] for name in ("rgb", "scribble")]
    assert extra["SparseCtrl hash"] == "; ".join(hashes)
    assert all(float(strength) > 0 for strength in extra["SparseCtrl strength"].split("; "))
    assert cli.main([*command, "--out", str(tmp_path / "clip.webp")]) == 0
    assert "Key frames: 0 2=0.5; 1" in capsys.readouterr().out


def test_jumps_are_told_and_colours_matched_on_key_frames(room: Path, host: Standalone, v3: MotionModel) -> None:
    frames = []
    for clip in (replace(CLIP, frames=4), replace(CLIP, frames=4, colour_match=True)):
        (control,) = gather(options(room, "rgb", "0=a.png"), clip.frames)
        frames.append(host.render(clip, Networks(v3, controls=[control])))
        assert control.jumps is not None and list(control.jumps.by_frame) == [0]
        assert describe_controls([control])["Key frame jumps"] == str(control.jumps)
    plain, matched = frames
    assert (matched[1:] == plain[1:]).all() and (matched[0] != plain[0]).any()
    assert abs(matched[0].mean() - plain[1].mean()) < 1
    assert (np.stack(list(host.stream(clip, Networks(v3, controls=[control])))) == matched).all()


def test_the_same_key_frames_draw_the_same_clip_and_others_another(
    room: Path, host: Standalone, v3: MotionModel
) -> None:
    plain = host.render(CLIP, v3)
    outputs = [
        host.render(CLIP, Networks(v3, controls=gather(options(room, "rgb", text), CLIP.frames)))
        for text in ("0=a.png", "0=a.png", "0=b.png", "1=a.png")
    ]
    assert (outputs[0] == outputs[1]).all()
    assert all((outputs[0] != other).any() for other in (plain, *outputs[2:]))
    assert (host.render(CLIP, v3) == plain).all()


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("rgb-untrained", {}, "all its residuals are zero"),
        ("rgb", {"key_scale": 0}, "its scale is 0"),
        ("rgb", {"key_start": 0.99}, "no step lies in 0.99 to 1"),
    ],
)
def test_a_control_that_does_nothing_stops_the_clip(
    name: str, settings: dict[str, Any], reason: str, room: Path, host: Standalone
) -> None:
    clip = replace(CLIP, **settings)
    with pytest.raises(MotionError, match=f"{name}.safetensors: SparseCtrl does nothing: .*{reason}"):
        host.render(clip, Networks(controls=gather(options(room, name, "0=a.png"), CLIP.frames)))


def test_an_encoder_for_another_base_is_refused(tiny: Path, room: Path) -> None:
    host = Standalone.open(tiny / "sdxl.safetensors", device="cpu")
    with pytest.raises(MotionError, match=r"SparseCtrl encoder .* does not fit"):
        host.render(CLIP, Networks(controls=[Control(room / "rgb.safetensors", {0: np.zeros((8, 8, 3), np.uint8)})]))
