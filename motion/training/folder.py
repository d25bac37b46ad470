"""A folder of clips as training data: found, captioned, cut to size, and encoded once into a cache beside the run."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor
from tqdm import tqdm

from motion.hosts.standalone.parts import Parts
from motion.hosts.standalone.text.prompts import encode
from motion.training.vae import to_pixels
from motion.video.captions import captioned, name_of, some
from motion.video.files import stills
from motion.video.pictures import Frame
from motion.video.read import open_clip
from motion.weights.describe import sha256
from motion.weights.files import save_whole

PIXELS_AT_ONCE = 8 * 256 * 256
"""Pixels that go through the autoencoder together, but always a whole frame."""
READER = "2"
"""Raised when the same files are read as other pixels than before, so that nothing encoded from those is taken."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A clip file or a folder of frames, and what it shows."""

    path: Path
    caption: str

    @property
    def name(self) -> str:
        """What it is called, without a suffix."""
        return name_of(self.path)

    def digest(self) -> str:
        """A hash of all that is learned from it."""
        files = [self.path] if self.path.is_file() else stills(self.path)
        return hashlib.sha256("".join([READER, self.caption, *map(sha256, files)]).encode()).hexdigest()


def find(folder: Path, trigger: str = "") -> list[Source]:
    """The clips in `folder` as `captioned` finds them; `trigger` goes in front of each caption."""
    told = captioned(folder).items()
    return [Source(path, ", ".join(filter(None, (trigger, caption)))) for path, caption in told]


def fit_frame(frame: Frame, width: int, height: int) -> Frame:
    """A frame ``[h, w, 3]`` scaled to cover ``width`` x ``height`` and cut to it around the middle."""
    scale = max(width / frame.shape[1], height / frame.shape[0])
    size = (max(width, round(frame.shape[1] * scale)), max(height, round(frame.shape[0] * scale)))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    box = (left, top, left + width, top + height)
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC).crop(box))


class Window(NamedTuple):
    """Frames of a clip: their numbers, the mean of their latents and a sample of them, both ``[frames, 4, h, w]``."""

    numbers: list[int]
    mean: Tensor
    sample: Tensor


@dataclass(frozen=True)
class Clips:
    """Clips as the posterior of their latents, from which each step draws `frames` of every `stride`-th.

    `files` hold ``moments``, ``[n, 8, h, w]`` (mean and deviation, scaled) and lie on the disk; `contexts` is the
    encoded caption of each, and the last one that of the empty caption, ``[clips + 1, tokens, width]``. `images`, of
    as many files, hold what the frames show an encoder of key images, ``pixels``, uint8 ``[n, 3, H, W]``.
    """

    files: Sequence[Path]
    contexts: Tensor
    frames: int
    stride: int
    images: Sequence[Path] = ()

    def clips(self, rng: np.random.Generator, count: int, text_drop: float) -> tuple[Tensor, Tensor]:
        """Random clips ``[count, frames, 4, h, w]`` and their contexts, some of them the empty caption's."""
        chosen = rng.integers(0, len(self.files), count)
        latents = [self._window(self.files[index], rng, self.frames).sample for index in chosen]
        return torch.stack(latents), self._contexts(chosen, rng, text_drop)

    def draw_with_images(self, rng: np.random.Generator, count: int, text_drop: float) -> tuple[Tensor, Tensor, Tensor]:
        """Random clips and contexts as by `clips`, and what their frames show an encoder, ``[count, frames, C, H, W]``.

        Those are pixels in [0, 1] where there are `images`, else the means of the latents, as in sampling.
        """
        chosen = rng.integers(0, len(self.files), count)
        windows = [self._window(self.files[index], rng, self.frames) for index in chosen]
        latents, contexts = torch.stack([window.sample for window in windows]), self._contexts(chosen, rng, text_drop)
        if not self.images:
            return latents, contexts, torch.stack([window.mean for window in windows])
        pairs = zip(chosen, windows, strict=True)
        pixels = [_rows(self.images[index], "pixels", window.numbers) for index, window in pairs]
        return latents, contexts, torch.stack(pixels).float() / 255

    def stills(self, rng: np.random.Generator, count: int, text_drop: float) -> tuple[Tensor, Tensor]:
        """One random frame each of random clips, ``[count, 4, h, w]``, and their contexts."""
        chosen = rng.integers(0, len(self.files), count)
        latents = [self._window(self.files[index], rng, 1).sample[0] for index in chosen]
        return torch.stack(latents), self._contexts(chosen, rng, text_drop)

    def _contexts(self, chosen: np.ndarray, rng: np.random.Generator, text_drop: float) -> Tensor:
        rows = np.where(rng.random(len(chosen)) < text_drop, len(self.files), chosen)
        return self.contexts[torch.from_numpy(rows)]

    def _window(self, path: Path, rng: np.random.Generator, frames: int) -> Window:
        numbers = window(length(path), frames, self.stride, rng)
        mean, deviation = _rows(path, "moments", numbers).float().chunk(2, dim=1)
        noise = torch.from_numpy(rng.standard_normal(mean.shape, dtype=np.float32))
        return Window(numbers, mean, mean + deviation * noise)


def _rows(path: Path, name: str, numbers: Sequence[int]) -> Tensor:
    with safe_open(path, framework="pt") as file:
        rows = file.get_slice(name)
        return torch.cat([rows[number : number + 1] for number in numbers])


def window(length: int, frames: int, stride: int, rng: np.random.Generator) -> list[int]:
    """Indices of `frames` frames, `stride` apart from a random one on; closer together where a clip is shorter."""
    span = min((frames - 1) * stride, length - 1)
    start = int(rng.integers(0, length - span))
    return [round(index) for index in np.linspace(start, start + span, frames)]


def encode_clips(
    parts: Parts,
    sources: Sequence[Source],
    cache: Path,
    size: tuple[int, int],
    frames: int,
    stride: int = 4,
    most: int | None = None,
) -> Clips:
    """The clips of `sources`, of each the first frames if there is a `most`, in the eyes of an image model, encoded
    where `cache` does not hold them yet.

    Raises MotionError naming a clip that cannot be read, and where the disk is full.
    """
    cache.mkdir(parents=True, exist_ok=True)
    marks = hashlib.sha256()
    for parameter in parts.vae.parameters():
        marks.update(parameter.detach().cpu().float().numpy().tobytes())
    files = []
    for source in tqdm(sources, "encode", mininterval=1.0):
        facts = (source.digest(), size, marks.hexdigest(), *([] if most is None else [most]))
        key = hashlib.sha256(" ".join(map(str, facts)).encode()).hexdigest()
        files.append(cache / f"{key[:24]}.safetensors")
        if not files[-1].exists():
            fitted = (fit_frame(frame, *size) for frame in open_clip(source.path).frames(0, most))
            save_whole({"moments": _moments(parts, fitted, size)}, files[-1])
    span = (frames - 1) * stride
    short = [source.path.name for source, file in zip(sources, files, strict=True) if length(file) <= span]
    if short:
        _log.warning("%s: shorter than %d frames %d apart, so their frames lie closer", some(short), frames, stride)
    with torch.no_grad():
        texts = [source.caption for source in sources]
        contexts = [encode(parts.encoders, [text]).context[:, :77] for text in (*texts, "")]
    return Clips(files, torch.cat(contexts).float().cpu(), frames, stride)


def length(path: Path) -> int:
    """How many frames a file of encoded ones holds."""
    with safe_open(path, framework="pt") as file:
        (name,) = file.keys()
        return int(file.get_slice(name).get_shape()[0])


@torch.no_grad()
def _moments(parts: Parts, frames: Iterator[Frame], size: tuple[int, int]) -> Tensor:
    """Mean and deviation of the latents of frames of a size, ``[n, 8, h, w]``, times the checkpoint's scale."""
    vae = parts.vae
    at_once = max(1, PIXELS_AT_ONCE // (size[0] * size[1]))
    found = []
    while part := list(islice(frames, at_once)):
        posterior = vae.encode(to_pixels(np.stack(part)).to(vae.device, vae.dtype)).latent_dist
        found.append(torch.cat([posterior.mean, posterior.std], dim=1).float().cpu() * vae.config.scaling_factor)
    return torch.cat(found)
