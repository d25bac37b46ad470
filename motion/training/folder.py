"""A folder of clips as training data: found, captioned, cut to size, and encoded once into a cache beside the run."""

from __future__ import annotations

import csv
import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor
from tqdm import tqdm

from motion.errors import MotionError
from motion.hosts.standalone.parts import Parts
from motion.hosts.standalone.prompts import encode
from motion.training.vae import to_pixels
from motion.video.destination import ENCODERS
from motion.video.files import STILLS
from motion.video.read import Frames, read
from motion.weights.describe import sha256

PIXELS_AT_ONCE = 8 * 256 * 256
"""Pixels that go through the autoencoder together, but always a whole frame."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A clip file or a folder of frames, and what it shows."""

    path: Path
    caption: str

    @property
    def name(self) -> str:
        """What it is called, without a suffix."""
        return self.path.name if self.path.is_dir() else self.path.stem

    def digest(self) -> str:
        """A hash of all that is learned from it."""
        files = [self.path] if self.path.is_file() else sorted(path for path in self.path.iterdir() if path.is_file())
        return hashlib.sha256("".join([self.caption, *map(sha256, files)]).encode()).hexdigest()


def find(folder: Path, trigger: str = "") -> list[Source]:
    """The clips in `folder`: files that move, and folders of frames; a picture is a clip of one frame.

    A caption stands in ``<name>.txt`` beside its clip, else in any ``.csv`` of the folder with the columns ``file``
    and ``caption``; without one it is empty. `trigger` goes in front of each. Raises MotionError if there is no clip.
    """
    if not folder.is_dir():
        raise MotionError(f"{folder} is no folder: give one with clips or folders of frames")
    suffixes = (*ENCODERS, *STILLS)
    paths = [
        path
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".") and (path.is_dir() or path.suffix.lower() in suffixes)
    ]
    if not paths:
        raise MotionError(f"{folder} holds no clips: put clip files or folders of frames into it")
    table = dict(_captions(folder))
    told = ((path, _caption(Source(path, ""), table)) for path in paths)
    return [Source(path, ", ".join(filter(None, (trigger, caption)))) for path, caption in told]


def _caption(source: Source, table: Mapping[str, str]) -> str:
    beside = source.path.parent / f"{source.name}.txt"
    if beside.is_file():
        return beside.read_text(encoding="utf-8", errors="replace").strip()
    return table.get(source.path.name, table.get(source.path.stem, ""))


def _captions(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.glob("*.csv")):
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            rows = csv.DictReader(file)
            if not {"file", "caption"} <= set(rows.fieldnames or ()):
                raise MotionError(f"{path} lacks the columns file and caption: name them in its first line")
            yield from ((row["file"], (row["caption"] or "").strip()) for row in rows)


def fit_frames(frames: Frames, width: int, height: int) -> Frames:
    """Frames ``[f, h, w, 3]`` scaled to cover ``width`` x ``height`` and cut to it around the middle."""
    scale = max(width / frames.shape[2], height / frames.shape[1])
    size = (max(width, round(frames.shape[2] * scale)), max(height, round(frames.shape[1] * scale)))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    box = (left, top, left + width, top + height)
    images = (Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC).crop(box) for frame in frames)
    return np.stack([np.asarray(image) for image in images])


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
    parts: Parts, sources: Sequence[Source], cache: Path, size: tuple[int, int], frames: int, stride: int = 4
) -> Clips:
    """The clips of `sources` in the eyes of an image model, encoded where `cache` does not hold them yet.

    Raises MotionError naming a clip that cannot be read, and where the disk is full.
    """
    cache.mkdir(parents=True, exist_ok=True)
    marks = hashlib.sha256()
    for parameter in parts.vae.parameters():
        marks.update(parameter.detach().cpu().float().numpy().tobytes())
    files = []
    for source in tqdm(sources, "encode", mininterval=1.0):
        key = hashlib.sha256(f"{source.digest()} {size} {marks.hexdigest()}".encode()).hexdigest()
        files.append(cache / f"{key[:24]}.safetensors")
        if not files[-1].exists():
            save("moments", _moments(parts, fit_frames(read(source.path).frames, *size)), files[-1])
        elif length(files[-1]) <= (frames - 1) * stride:
            _log.info("%s is shorter than %d frames %d apart: its frames lie closer", source.path, frames, stride)
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
def _moments(parts: Parts, frames: Frames) -> Tensor:
    """Mean and deviation of the frames' latents, ``[n, 8, h, w]``, times the checkpoint's scale."""
    vae = parts.vae
    pixels = to_pixels(np.ascontiguousarray(frames))
    at_once = max(1, PIXELS_AT_ONCE // (frames.shape[1] * frames.shape[2]))
    found = []
    for part in torch.split(pixels, at_once):
        posterior = vae.encode(part.to(vae.device, vae.dtype)).latent_dist
        found.append(torch.cat([posterior.mean, posterior.std], dim=1).float().cpu() * vae.config.scaling_factor)
    return torch.cat(found)


def save(name: str, rows: Tensor, path: Path) -> None:
    """Keep a tensor, whole or not at all. Raises MotionError where the disk is full."""
    partial = path.with_suffix(".partial")
    try:
        safetensors.torch.save_file({name: rows.contiguous()}, partial)
        partial.replace(path)
    except OSError as error:
        raise MotionError(f"cannot save {path}: {error.strerror}; free some room and run it again") from error
    finally:
        partial.unlink(missing_ok=True)
