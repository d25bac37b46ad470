"""What the recipes learn from: captioned clips, encoded once into latents that are kept beside the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from motion.training.vae import LATENT_SCALE, to_pixels

Tokenize = Callable[[Sequence[str]], Tensor]
"""Captions -> token ids, int64 ``[n, 77]``."""


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


@dataclass(frozen=True)
class LatentClips:
    """Clips as scaled latents ``[clips, frames, 4, h, w]`` with the tokens of their captions.

    ``tokens`` is ``[clips, captions, 77]``: a clip may have several captions, one of which is drawn each time;
    ``empty`` is the empty caption's, ``[77]``.
    """

    latents: Tensor
    tokens: Tensor
    empty: Tensor

    def stills(self, rng: np.random.Generator, count: int, text_drop: float) -> tuple[Tensor, Tensor]:
        """Random frames ``[count, 4, h, w]`` and tokens ``[count, 77]``, some of them the empty caption's."""
        chosen, tokens = self.draw(rng, count, text_drop)
        frames = torch.from_numpy(rng.integers(0, self.latents.shape[1], count))
        return self.latents[chosen, frames], tokens

    def clips(self, rng: np.random.Generator, count: int, text_drop: float) -> tuple[Tensor, Tensor]:
        """Random clips ``[count, frames, 4, h, w]`` and one caption's tokens each, ``[count, 77]``."""
        chosen, tokens = self.draw(rng, count, text_drop)
        return self.latents[chosen], tokens

    def draw(self, rng: np.random.Generator, count: int, text_drop: float) -> tuple[Tensor, Tensor]:
        """The numbers of random clips ``[count]`` and one caption's tokens each, ``[count, 77]``."""
        chosen = torch.from_numpy(rng.integers(0, len(self.latents), count))
        captions = torch.from_numpy(rng.integers(0, self.tokens.shape[1], count))
        dropped = torch.from_numpy(rng.random(count) < text_drop)
        return chosen, torch.where(dropped[:, None], self.empty, self.tokens[chosen, captions])


def sprite_clips(vae: AutoencoderKL, tokenize: Tokenize, count: int, look: str, file: Path) -> LatentClips:
    """``count`` clips of the training scenes, the same ones each time; encoded latents are kept in ``file``."""
    scenes = [training_scene(number) for number in range(count)]
    # Four in five captions name the background, so that a prompt may leave it open.
    tokens = [tokenize([scene.caption] * 4 + [scene.short_caption]) for scene in scenes]
    with PartialState().main_process_first():  # the others find what it has encoded
        if not file.exists():
            partial = file.with_suffix(".partial")
            file.parent.mkdir(parents=True, exist_ok=True)
            safetensors.torch.save_file({"latents": _encode(vae, count, look)}, partial)
            partial.replace(file)
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
