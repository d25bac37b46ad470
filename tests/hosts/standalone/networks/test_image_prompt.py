"""IP-Adapter in the standalone host: from options and pictures to frames, and what the clip says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

import motion
from motion.cli import main as cli
from motion.errors import MotionError
from motion.fields.table import Size
from motion.hosts.standalone import Networks, Standalone
from motion.hosts.standalone.networks.image_prompt import ImagePrompt, gather
from motion.models.ip_adapter.model import IPAdapter
from motion.models.motion.model import MotionModel
from motion.settings.parameters import parse_infotext
from motion.settings.settings import Clip
from motion.video.read import read

CLIP = Clip(prompt="a red circle", frames=4, steps=2, seed=1, size=Size(64, 64), context_length=0)
ROUNDING = 1
"""Of 255; pictures that are encoded beside others come out otherwise in the last digit."""
VISION = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def host(tiny: Path) -> Standalone:
    return Standalone.open(tiny / "sd15.safetensors", device="cpu")


@pytest.fixture(scope="module")
def room(host: Standalone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Adapters for the tiny checkpoint, their image encoder, and two pictures."""
    folder = tmp_path_factory.mktemp("ip")
    torch.manual_seed(5)
    CLIPVisionModelWithProjection(
        CLIPVisionConfig(**VISION, projection_dim=20, image_size=224, patch_size=56)
    ).save_pretrained(folder / "encoder")
    width = host.parts.unet.config.cross_attention_dim
    # diffusers' own order of modules is that of its attention processors
    layers = [block.attn2.to_k.out_features for block in host.parts.unet.modules() if hasattr(block, "attn2")]
    for name, projection in {"base": _pooled(width), "full": _tokens(width)}.items():
        state = {f"image_proj.{key}": value for key, value in projection.items()}
        for number, inner in enumerate(layers):
            for matrix in ("to_k_ip", "to_v_ip"):
                state[f"ip_adapter.{2 * number + 1}.{matrix}.weight"] = torch.randn(inner, width) / 4
        save_file(state, folder / f"{name}.safetensors")
    for name in ("a.png", "b.png"):
        Image.fromarray(np.random.default_rng(len(name) + ord(name[0])).integers(0, 255, (40, 60, 3), np.uint8)).save(
            folder / name
        )
    return folder


def _pooled(width: int) -> dict[str, torch.Tensor]:
    shapes = {"proj.weight": (2 * width, 20), "proj.bias": (2 * width,), "norm.weight": (width,), "norm.bias": (width,)}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def _tokens(width: int) -> dict[str, torch.Tensor]:
    shapes = {"proj.0.weight": (24, 24), "proj.0.bias": (24,), "proj.2.weight": (width, 24), "proj.2.bias": (width,)}
    norms = {"proj.3.weight": (width,), "proj.3.bias": (width,)}
    return {name: torch.randn(shape) for name, shape in {**shapes, **norms}.items()}


def prompt(room: Path, adapter: str, *images: str, frames: int = CLIP.frames) -> ImagePrompt:
    found = gather(str(room / adapter), [text.replace("@", f"{room}/") for text in images], room / "encoder", frames)
    assert found is not None
    return found


@pytest.mark.parametrize("adapter", ["base.safetensors", "full.safetensors"])
def test_frames_are_drawn_after_their_pictures(room: Path, host: Standalone, adapter: str) -> None:
    """Without motion each frame is drawn for itself: at a key as with that picture alone, in between otherwise."""
    still = replace(CLIP, seed_mode="frame")

    def drawn(*images: str) -> np.ndarray:
        return host.render(still, Networks(image_prompt=prompt(room, adapter, *images))).astype(int)

    def far(some: np.ndarray, other: np.ndarray) -> float:
        return float(np.abs(some - other).max())

    plain, first, second = host.render(still), drawn("@a.png"), drawn("0=@b.png")
    both = drawn("0=@a.png", "-1=@b.png")
    assert far(first, plain) > ROUNDING and far(first, second) > ROUNDING
    assert far(both[0], first[0]) <= ROUNDING and far(both[-1], second[-1]) <= ROUNDING
    assert far(both[1], first[1]) > ROUNDING and far(both[1], second[1]) > ROUNDING
    assert (host.render(still, Networks(image_prompt=prompt(room, f"{adapter}=0", "@a.png"))) == plain).all()
    curve = host.render(still, Networks(image_prompt=prompt(room, f"{adapter}=0-1: 1, 2: 0", "@a.png"))).astype(int)
    assert far(curve[:2], first[:2]) <= ROUNDING >= far(curve[2:], plain[2:])


def test_the_negative_prompt_has_no_picture(room: Path) -> None:
    """Zeros of the embedding, or what the encoder makes of zeros."""
    for adapter, zero in (("base.safetensors", True), ("full.safetensors", False)):
        model: IPAdapter = motion.ip_adapter.load(room / adapter)
        _, negative = prompt(room, adapter, "@a.png").encode(model, 4, 4, False)
        assert torch.equal(negative, model.tokens(torch.zeros(1, 20))) if zero else negative.shape == (1, 17, 32)


@pytest.mark.parametrize("engine", ["denoiser", "attention"])
def test_windows_keep_the_pictures_of_their_frames(room: Path, host: Standalone, v3: MotionModel, engine: str) -> None:
    """One window is as good as none, several draw; the module adds nothing, so they are the whole clip's frames."""
    clip = replace(CLIP, frames=6, scale=0.0, noise="independent")
    networks = Networks(v3, image_prompt=prompt(room, "base.safetensors", "0=@a.png", "-1=@b.png", frames=6))
    whole = host.render(clip, networks).astype(int)
    cut = host.render(replace(clip, context_length=4, context_overlap=2, context_engine=engine), networks)
    assert np.abs(cut - whole).max() <= ROUNDING


@pytest.fixture(scope="module")
def v3(tiny: Path) -> MotionModel:
    return motion.load(tiny / "v3.safetensors")


def test_from_files_to_file(room: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "clip.gif"
    files = ["--checkpoint", str(tiny / "sd15.safetensors"), "--out", str(out), "--device", "cpu"]
    clip = ["--prompt", "a cat", "--frames", "2", "--steps", "2", "--size", "64x64", "--seed", "1"]
    image = ["--ip-adapter", f"{room}/base.safetensors=0.8", "--ip-image", f"-1={room}/a.png"]
    assert cli.main(["render", *files, *clip, *image, "--image-encoder", str(room / "encoder")]) == 0
    _, extra = parse_infotext(read(out).parameters)
    assert extra["IP-Adapter"].startswith("base: 0.8, frames 1 (")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ((None, ["a.png"], None), "there is no IP-Adapter"),
        (("missing.safetensors", ["@a.png"], "@encoder"), "IP-Adapter missing.safetensors does not exist"),
        (("@base.safetensors", [], "@encoder"), "has no image: give one with --ip-image"),
        (("@base.safetensors", ["@a.png"], None), "has no image encoder"),
        (("@base.safetensors=7", ["@a.png"], "@encoder"), "scale of the IP-Adapter is 7"),
        (("@base.safetensors=0: 1, 9: 0", ["@a.png"], "@encoder"), "9 is not in a clip of 4 frames"),
        (("@base.safetensors", ["9=@a.png"], "@encoder"), "9"),
        (("@base.safetensors", ["missing.png"], "@encoder"), "missing.png"),
    ],
)
def test_what_does_not_fit_is_named(room: Path, options: tuple[Any, Any, Any], named: str) -> None:
    adapter, images, encoder = options
    places = [None if text is None else text.replace("@", f"{room}/") for text in (adapter, *images, encoder)]
    with pytest.raises(MotionError, match=named):
        gather(places[0], [text for text in places[1:-1] if text], Path(places[-1]) if places[-1] else None, 4)


def test_another_encoder_than_the_adapters_is_named(room: Path, host: Standalone, tmp_path: Path) -> None:
    with pytest.raises(MotionError, match=r"is none: give the folder with its config\.json"):
        host.render(CLIP, Networks(image_prompt=replace(prompt(room, "base.safetensors", "@a.png"), encoder=tmp_path)))
    other = CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION, projection_dim=8, image_size=224, patch_size=56))
    other.save_pretrained(tmp_path / "other")
    wrong = replace(prompt(room, "base.safetensors", "@a.png"), encoder=tmp_path / "other")
    with pytest.raises(MotionError, match="takes one embedding of 20 channels"):
        host.render(CLIP, Networks(image_prompt=wrong))
