"""The clips of the sprite world that its models learn from, encoded once into latents that are kept beside the run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from accelerate import PartialState
from diffusers import AutoencoderKL
from torch import Tensor
from tqdm import tqdm

from motion.demo.world import Frames, Scene, all_scenes, draw_clip
from motion.training.data import LatentClips, Tokenize
from motion.training.vae import LATENT_SCALE, to_pixels
from motion.weights.files import save_whole


@cache
def training_scenes() -> tuple[Scene, ...]:
    """The scenes that training may see."""
    return tuple(scene for scene in all_scenes() if not scene.held_out)


def training_scene(number: int) -> Scene:
    """What the world's training clip of that number shows."""
    return training_scenes()[number % len(training_scenes())]


def training_clip(number: int, look: str) -> Frames:
    """Its frames, uint8 ``[16, 64, 64, 3]``: the same ones each time."""
    return draw_clip(training_scene(number), np.random.default_rng(number), look)


def sprite_stills(rng: np.random.Generator, count: int, looks: Sequence[str]) -> Frames:
    """Single frames of random training scenes in random looks, uint8 ``[count, 64, 64, 3]``."""
    scenes = training_scenes()
    return np.stack(
        [
            draw_clip(scenes[rng.integers(len(scenes))], rng, looks[int(rng.integers(len(looks)))], 1)[0]
            for _ in range(count)
        ]
    )


def sprite_clips(vae: AutoencoderKL, tokenize: Tokenize, count: int, look: str, file: Path) -> LatentClips:
    """``count`` clips of the training scenes, the same ones each time; encoded latents are kept in ``file``."""
    scenes = [training_scene(number) for number in range(count)]
    # Four in five captions name the background, so that a prompt may leave it open.
    tokens = [tokenize([scene.caption] * 4 + [scene.short_caption]) for scene in scenes]
    with PartialState().main_process_first():  # the others find what it has encoded
        if not file.exists():
            save_whole({"latents": _encode(vae, count, look)}, file)
    latents = safetensors.torch.load_file(file)["latents"]
    return LatentClips(latents, torch.stack(tokens), tokenize([""])[0])


@torch.no_grad()
def _encode(vae: AutoencoderKL, count: int, look: str) -> Tensor:
    latents = []
    for number in tqdm(range(count), "encode", mininterval=1.0):
        pixels = to_pixels(training_clip(number, look)).to(vae.device)
        with torch.autocast(pixels.device.type, torch.bfloat16):
            mean = vae.encode(pixels).latent_dist.mean
        latents.append(mean.float().cpu() * LATENT_SCALE)
    return torch.stack(latents).contiguous()
