"""Masks in the standalone host: what stays of a source, what an inpainting model sees, where parts of prompts count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import motion
from motion.cli import main as cli
from motion.errors import MotionError
from motion.fields.table import Size
from motion.hosts.regions import Regions
from motion.hosts.source import Source, in_order
from motion.hosts.standalone import Standalone
from motion.hosts.standalone.networks.networks import Networks
from motion.hosts.standalone.text.joined import Part, split
from motion.hosts.standalone.vae import encode
from motion.settings.settings import Clip
from motion.video.read import read
from motion.video.write import write
from tests.support.small import far

SIZE = Size(64, 64)
CLIP = Clip(prompt="a cat", frames=3, steps=2, seed=1, size=SIZE, cfg=1.0, mask_blur=2)
CONV_IN = "model.diffusion_model.input_blocks.0.0.weight"
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers")


@pytest.fixture(scope="module")
def host(tiny: Path) -> Standalone:
    return Standalone.open(tiny / "sd15.safetensors", device="cpu")


@pytest.fixture(scope="module")
def inpainting(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same checkpoint with five further channels, random ones."""
    state = load_file(tiny / "sd15.safetensors")
    more = torch.randn(len(state[CONV_IN]), 5, 3, 3, generator=torch.Generator().manual_seed(2))
    state[CONV_IN] = torch.cat([state[CONV_IN], 0.1 * more], 1)
    path = tmp_path_factory.mktemp("inpainting") / "inpainting.safetensors"
    save_file(state, path)
    return path


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three frames of 96 x 64."""
    return written(tmp_path_factory.mktemp("source") / "movie.webp", lambda draw: draw.integers(0, 255, (64, 96, 3)))


@pytest.fixture(scope="module")
def mask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A white square that wanders through three frames of 64 x 64."""
    path = tmp_path_factory.mktemp("mask") / "mask.webp"
    frames = np.zeros((3, 64, 64, 3), np.uint8)
    for number, frame in enumerate(frames):
        frame[16:40, 8 + 8 * number : 24 + 8 * number] = 255
    write(frames, path, 10, "")
    return path


def written(path: Path, frame: Any) -> Path:
    draw = np.random.default_rng(3)
    write((frame(draw).astype(np.uint8) for _ in range(3)), path, 10, "")
    return path


def resized(source: Source) -> npt.NDArray[np.uint8]:
    return np.stack(list(source.frames(3, SIZE)))


@pytest.mark.parametrize("sampler", ["ddim", "euler_a", "lcm"])
def test_the_source_stays_outside_of_the_mask(
    host: Standalone, tiny: Path, movie: Path, mask: Path, sampler: str
) -> None:
    """Bit-equal outside the mask and its blur; with a motion module more frames are drawn than the clip has."""
    source = Source(movie, mask=mask)
    masks = np.stack(list(source.masks(3, SIZE, CLIP.mask_blur)))
    clip = replace(CLIP, sampler=sampler, strength=1.0)
    for module in (None, motion.load(tiny / "v3.safetensors")):
        drawn = host.render(clip, module, source=source)
        assert (drawn[masks == 0] == resized(source)[masks == 0]).all()
        inside = np.abs(drawn[masks == 255].astype(int) - resized(source)[masks == 255])
        assert (masks == 255).sum() > 200 and inside.mean() > 10


def test_what_a_mask_keeps_is_seen_by_what_is_drawn(host: Standalone, movie: Path, mask: Path) -> None:
    """The latents outside are the source's to the end, so what stands inside depends on them."""
    source = Source(movie, mask=mask)
    latents = host._latents([replace(CLIP, strength=1.0, sampler="euler")], Networks(), None, source=source)[0]
    pixels = torch.from_numpy(resized(source)).movedim(-1, 1) / 255
    own = torch.cat([encode(host.parts.vae, one[None]) for one in pixels])
    torch.testing.assert_close(latents[0, :, 6:], own[0, :, 6:], rtol=1e-4, atol=1e-4)
    assert (latents[0, :, 2:4, 1] - own[0, :, 2:4, 1]).abs().min() > 1e-3


def test_a_white_mask_is_none_and_a_black_one_leaves_the_source(host: Standalone, movie: Path, tmp_path: Path) -> None:
    for level in (255, 0):
        path = written(tmp_path / f"{level}.png", lambda _, level=level: np.full((64, 96, 3), level))
        source = Source(movie, mask=path)
        drawn = host.render(CLIP, source=source)
        if level:
            assert np.abs(drawn.astype(int) - host.render(CLIP, source=Source(movie))).max() <= 1
        else:
            assert (drawn == resized(source)).all()


def test_clips_of_one_batch_keep_the_same(host: Standalone, movie: Path, mask: Path) -> None:
    source, clips = Source(movie, mask=mask), [CLIP, replace(CLIP, seed=2)]
    for clip, drawn in zip(clips, host.render_all(clips, source=source), strict=True):
        assert np.abs(drawn.astype(int) - host.render(clip, source=source)).max() <= 1


def test_an_inpainting_model_sees_the_mask_and_the_masked_picture(
    inpainting: Path, tiny: Path, movie: Path, mask: Path
) -> None:
    """In this order, frame by frame, also where windows cut the clip."""
    host, module = Standalone.open(inpainting, device="cpu"), motion.load(tiny / "v3.safetensors")
    seen: list[torch.Tensor] = []
    taken = host.parts.unet.conv_in.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    clip = replace(CLIP, mask_blur=0, context_length=2, context_overlap=1, context_schedule="static")
    host.render(clip, module, source=Source(movie, mask=mask))
    plain = host.render(clip, module)
    taken.remove()
    frames, masks = resized(Source(movie)), np.stack(list(Source(movie, mask=mask).masks(3, SIZE, 0)))
    hidden = torch.from_numpy(masks[:2] == 255)
    shown = torch.where(hidden[:, None], 0.5, torch.from_numpy(frames[:2]).movedim(-1, 1) / 255)
    assert seen[0].shape == (2, 9, 8, 8)
    assert (seen[0][:, 4] == hidden[:, ::8, ::8]).all()
    torch.testing.assert_close(seen[0][:, 5:], encode(host.parts.vae, shown), rtol=1e-4, atol=1e-4)
    grey = encode(host.parts.vae, torch.full((1, 3, 64, 64), 0.5))
    assert (seen[-1][:, 4] == 1).all()
    torch.testing.assert_close(seen[-1][:, 5:], grey.expand_as(seen[-1][:, 5:]), rtol=1e-4, atol=1e-4)
    assert plain.std() > 0


def test_a_still_with_a_mask_becomes_a_cinemagraph(tmp_path: Path, movie: Path, mask: Path) -> None:
    """From file to file, there and back; the source is the same in all frames outside of the mask."""
    still = tmp_path / "still.png"
    write(read(movie).frames[:1], still, 1, "")
    files = ["--init", str(still), "--mask", str(mask), "--frames", "3", "--steps", "1", "--loop", "ping-pong"]
    out = ["--out", str(tmp_path / "out") + "/", "--size", "64x64", "--zoom", "1", "--device", "cpu"]
    assert cli.main(["render", "--demo", *files, *out]) == 0
    frames = read(tmp_path / "out").frames
    masks = np.stack(list(Source(still, mask=mask).masks(3, SIZE, 4)))[[0, 1, 2, 1]]
    expected = np.repeat(next(Source(still).frames(1, SIZE))[None], 4, 0)
    assert (frames[masks == 0] == expected[masks == 0]).all() and (frames != expected).any()
    assert (frames[1] == frames[3]).all()


def test_what_does_not_do_is_named(movie: Path, tmp_path: Path, host: Standalone, capsys: Any) -> None:
    assert cli.main(["render", "--demo", "--mask", str(movie), "--out", str(tmp_path / "a.gif")]) == 2
    assert "give one with --init CLIP" in capsys.readouterr().err
    with pytest.raises(MotionError, match=r"missing.png does not exist"):
        host.render(CLIP, source=Source(movie, mask=tmp_path / "missing.png"))
    short = written(tmp_path / "short.webp", lambda draw: draw.integers(0, 255, (64, 96, 3)))
    with pytest.raises(MotionError, match="has 3 frames and the clip 5"):
        list(Source(movie, mask=short).masks(5, SIZE, 0))


@pytest.mark.parametrize("order", [range(100), [*range(100), *range(98, 0, -1)], [3, 3, 2, 50, 0]])
def test_frames_come_in_any_order(order: list[int]) -> None:
    walks: list[int] = []

    def walk() -> Iterator[int]:
        walks.append(1)
        return iter(range(100))

    assert list(in_order(order, walk)) == list(order)
    assert len(walks) <= 5


PROMPTS = "a cat", "a red square"
ONE_STEP = replace(CLIP, frames=4, steps=1, cfg=5.0, context_length=0)
"""After one step each place of the latents is what is predicted there."""


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Regions:
    """The first part counts on the left, the second one on the right, and from frame 2 on half on the left, too."""
    folder = tmp_path_factory.mktemp("regions")
    left = np.zeros((4, 64, 64, 3), np.uint8)
    left[:, :, :32] = 255
    right = 255 - left
    right[2:, :, :32] = 255
    for name, frames in {"left": left[:1], "right": right}.items():
        (folder / name).mkdir()
        for number, frame in enumerate(frames):
            Image.fromarray(frame).save(folder / name / f"{number}.png")
    return Regions.read([folder / "left" / "0.png", folder / "right"], 4)


def latents(host: Standalone, prompt: str, networks: Networks | None = None, **settings: Any) -> torch.Tensor:
    clip = replace(ONE_STEP, prompt=prompt, **settings)
    return host._latents([clip], Networks() if networks is None else networks, None)[0]


def test_parts_of_a_prompt_are_read_as_the_webuis_read_them() -> None:
    assert split("a cat AND a :dog :0.5 AND b:1.2<lora:FOO AND:1>") == [
        Part("a cat<lora:FOO AND:1>"), Part(" a :dog<lora:FOO AND:1>", 0.5), Part(" b<lora:FOO AND:1>", 1.2)
    ]  # fmt: skip
    assert split("ANDY and BAND") == [Part("ANDY and BAND")]


def test_parts_add_up_by_their_weights(host: Standalone) -> None:
    first, second = PROMPTS
    alone = latents(host, first)
    assert far(latents(host, f"{first} AND {second} :0"), alone) < 1e-5
    assert far(latents(host, f"{first} :0.5 AND {first} :0.5"), alone) < 1e-5
    assert far(latents(host, f"{first} AND {second}"), alone) > 1e-3
    lines = latents(host, f"0: {first} AND {second} :0\n-1: {second} AND {first} :0")
    assert far(lines[[0, 3]], torch.stack([alone[0], latents(host, second)[3]])) < 1e-5
    without = latents(host, f"{first} AND {second} :0", cfg=1.0)
    assert far(without, latents(host, first, cfg=1.0)) < 1e-5
    with pytest.raises(MotionError, match=r"joined by AND with weights \[1, 1\] and \[1\]: give each key frame"):
        latents(host, f"0: {first} AND {second}\n-1: {first}")


@pytest.mark.parametrize(
    "settings", [{}, {"context_length": 3, "context_overlap": 2, "noise": "independent"}], ids=["whole", "windows"]
)
def test_a_part_counts_where_its_mask_is_white(host: Standalone, halves: Regions, settings: dict[str, Any]) -> None:
    first, second = (latents(host, prompt, **settings) for prompt in PROMPTS)
    joined = f"{PROMPTS[0]} AND {PROMPTS[1]}"
    found = latents(host, joined, Networks(regions=halves), **settings)
    assert far(found[..., 4:], second[..., 4:]) < 1e-5 > far(found[:2, ..., :4], first[:2, ..., :4])
    both = latents(host, joined, **settings)
    assert far(found[2:, ..., :4], both[2:, ..., :4]) < 1e-5


@pytest.mark.parametrize("prompt", ["a cat", "a AND b AND c"])
def test_each_part_has_a_mask(host: Standalone, halves: Regions, prompt: str) -> None:
    with pytest.raises(MotionError, match=r"region masks are 2 and AND joins [13] parts in the prompt"):
        latents(host, prompt, Networks(regions=halves))


def test_regions_from_the_command_line(host: Standalone, tiny: Path, mask: Path, tmp_path: Path) -> None:
    out = tmp_path / "clip.gif"
    files = ["--checkpoint", str(tiny / "sd15.safetensors"), "--out", str(out), "--device", "cpu"]
    clip = ["--prompt", "a cat AND a dog", "--frames", "3", "--steps", "2", "--size", "64x64", "--seed", "1"]
    assert cli.main(["render", *files, *clip, "--region", "", "--region", str(mask)]) == 0
    assert "Motion regions: ; mask.webp" in read(out).parameters.replace('"', "")
    with pytest.raises(MotionError, match="one prompt: give one without AND"):
        host.invert(replace(CLIP, prompt="a AND b"), np.zeros((3, 64, 64, 3), np.uint8))
