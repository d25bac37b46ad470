"""Video to video in a WebUI: what txt2img and img2img begin with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from motion.errors import MotionError
from motion.hosts.source import Source
from motion.hosts.webui import source as sources
from motion.hosts.webui.initial_images import Initial, encode_one_by_one, frames_of, leave_overlays
from motion.hosts.webui.source import SourceLatents
from motion.settings.source import SourceClip
from motion.video.write import write

FRAMES, SIDE = 5, 64
STRENGTH = 0.4


@pytest.fixture
def clip(tmp_path: Path) -> Source:
    """As many frames, each of one grey: its number times 20."""
    write((np.full((SIDE, SIDE, 3), 20 * number, np.uint8) for number in range(FRAMES)), tmp_path / "clip.webp", 8, "")
    return Source(tmp_path / "clip.webp")


class Sampler:
    """A host's sampler that notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def sample(self, p: Any, x: Tensor, *args: Any, **kwargs: Any) -> str:
        return "from noise"

    def sample_img2img(self, p: Any, latents: Tensor, noise: Tensor, *args: Any, **kwargs: Any) -> str:
        self.asked.append((latents, noise, p.denoising_strength, args, kwargs))
        return "from latents"


@pytest.fixture
def samplers(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = SimpleNamespace(create_sampler=lambda *_: Sampler())
    common = SimpleNamespace(approximation_indexes={"Full": 0})
    modules = {"sd_samplers": made, "sd_samplers_common": common, "shared": SimpleNamespace(opts=SimpleNamespace())}
    monkeypatch.setitem(sys.modules, "modules", ModuleType("modules"))
    for name, content in modules.items():
        monkeypatch.setitem(sys.modules, f"modules.{name}", content)  # type: ignore[arg-type]
    monkeypatch.setattr(sources, "encode", lambda pixels, method: pixels[:, :1, ::8, ::8].repeat(1, 4, 1, 1))
    return made


@contextmanager
def attached(source: SourceLatents, p: Any, samplers: Any) -> Iterator[Any]:
    before = samplers.create_sampler
    with ExitStack() as undo:
        source.attach(p, undo)
        yield samplers.create_sampler("Euler", None)
    assert samplers.create_sampler is before


def test_txt2img_begins_with_a_frame_in_each_row_and_keeps_the_strength_of_hires_fix(
    clip: Source, samplers: Any
) -> None:
    p, noise = SimpleNamespace(width=SIDE, height=SIDE, denoising_strength=0.7), torch.randn(FRAMES + 2, 4, 8, 8)
    source = SourceLatents(clip, SourceClip(source_strength=STRENGTH), FRAMES)
    with attached(source, p, samplers) as sampler:
        assert sampler.sample(p, noise, "c", "uc", image_conditioning="none") == "from latents"
        assert sampler.sample(p, noise, "c", "uc") == "from latents", "the next clip"
    latents, given, strength, args, kwargs = sampler.asked[0]
    assert [round(255 * row.mean().item()) // 20 for row in latents] == [0, 1, 2, 3, 4, 4, 4]
    assert (latents == sampler.asked[1][0]).all() and given is noise
    assert (strength, p.denoising_strength, args, kwargs) == (
        *(STRENGTH, 0.7), ("c", "uc"), {"image_conditioning": "none"}
    )  # fmt: skip
    p = SimpleNamespace(width=SIDE, height=SIDE)
    with (
        attached(SourceLatents(clip, SourceClip(), FRAMES + 1), p, samplers) as sampler,
        pytest.raises(MotionError, match="has 5 frames and the clip 6"),
    ):
        sampler.sample(p, noise)
    assert not hasattr(p, "denoising_strength")


def test_in_txt2img_a_mask_keeps_the_source_in_each_step_and_at_the_end(
    clip: Source, samplers: Any, tmp_path: Path
) -> None:
    mask = np.zeros((SIDE, SIDE, 3), np.uint8)
    mask[:, SIDE // 2 :] = 255
    write(mask[None], tmp_path / "mask.png", 8, "")
    p, noise, seen = SimpleNamespace(width=SIDE, height=SIDE), torch.randn(FRAMES + 1, 4, 8, 8), []

    def drawn(self: Any, p: Any, latents: Tensor, *args: Any) -> Tensor:
        seen.append((latents, p.mask, p.nmask))
        return torch.full_like(latents, 9.0)

    source = SourceLatents(replace(clip, mask=tmp_path / "mask.png"), SourceClip(), FRAMES)
    with attached(source, p, samplers) as sampler:
        sampler.sample_img2img = drawn.__get__(sampler)
        result = sampler.sample(p, noise)
    latents, kept, anew = seen[0]
    assert kept.shape == anew.shape == (FRAMES + 1, 1, 8, 8) and (kept + anew == 1).all()
    assert (anew[..., 5:] == 1).all() and (anew[..., :3] == 0).all()
    assert (result[..., 5:] == 9).all() and (result[..., :3] == latents[..., :3]).all()
    assert not {"mask", "nmask", "denoising_strength"} & vars(p).keys()


class Img2img:
    """What of the host's processing object initial images go through."""

    def __init__(self, mask: Any = None) -> None:
        self.batch_size, self.image_mask, self.color_corrections = FRAMES + 1, mask, None
        self.overlay_images: Any = None
        self.mask_for_overlay: Any = None
        self.mask: Any = None
        self.nmask: Any = None
        self.told: list[Any] = []

    def init(self, prompts: Any, seeds: Any, subseeds: Any) -> None:
        (image,) = self.init_images
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
        self.init_latent = pixels[:, :1, ::8, ::8].repeat(self.batch_size, 4, 1, 1)
        self.image_conditioning = self.init_latent.new_zeros(self.batch_size, 5, 1, 1)
        self.told.append((prompts, seeds, subseeds))
        if self.image_mask is not None:
            self.mask_for_overlay, self.overlay_images = self.image_mask, [image] * self.batch_size
            self.nmask = torch.full((4, 8, 8), np.asarray(self.image_mask).mean().item() / 255)
            self.mask = 1 - self.nmask
        self.color_corrections = [image] if self.color_corrections is None else None


def encoded(p: Img2img, given: Iterator[Initial]) -> list[Any]:
    texts = list("abcdef"), list(range(6)), list(range(10, 16))
    return encode_one_by_one(p, given, p.init, texts[:2], {"subseeds": texts[2]})


@pytest.mark.parametrize("mask", [None, Image.new("L", (SIDE, SIDE), 255)])
def test_img2img_encodes_each_frame_as_it_would_its_one_image(clip: Source, mask: Any) -> None:
    p = Img2img(mask)
    images = list(frames_of(clip.pictures(FRAMES), 1))
    assert encoded(p, map(Initial, images)) == []
    assert [round(255 * row.mean().item()) // 20 for row in p.init_latent] == [0, 1, 2, 3, 4, 4]
    assert len(p.image_conditioning) == p.batch_size == FRAMES + 1
    assert p.told[2] == (["c"], [2], [12]) and p.init_images == images[:1]
    assert p.color_corrections == images and p.image_mask is mask
    assert p.overlay_images == (None if mask is None else images)
    assert p.nmask is None if mask is None else p.nmask.shape == (4, 8, 8)


def test_each_frame_may_have_a_mask_of_its_own(clip: Source) -> None:
    masks = [Image.new("L", (SIDE, SIDE), 40 * number) for number in range(FRAMES + 1)]
    p = Img2img()
    over = encoded(p, map(Initial, frames_of(clip.pictures(FRAMES), 1), masks))
    leave_overlays(p)
    assert (p.overlay_images, p.color_corrections, p.mask_for_overlay) == (None, None, None)
    assert over == masks and p.image_mask is None
    assert torch.allclose(p.nmask[:, 0, 0, 0], torch.arange(FRAMES + 1) * 40 / 255)
    assert torch.equal(p.mask, 1 - p.nmask)
