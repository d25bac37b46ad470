"""A folder of clips as training data: found, captioned, cut to size, and encoded once into a cache beside the run."""

from __future__ import annotations

import csv
import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor
from tqdm import tqdm

from motion.errors import MotionError
from motion.hosts.standalone.checkpoint import Parts
from motion.hosts.standalone.prompts import encode
from motion.training.vae import to_pixels
from motion.video.read import STILLS, Frames, read
from motion.video.write import ENCODERS
from motion.weights.describe import sha256

PIXELS_AT_ONCE = 8 * 256 * 256
"""Pixels that go through the autoencoder together, but always a whole frame."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A clip file or a folder of frames, and what it shows."""

    path: Path
    caption: str

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
    return [Source(path, ", ".join(filter(None, (trigger, _caption(path, table))))) for path in paths]


def _caption(path: Path, table: Mapping[str, str]) -> str:
    beside = path.parent / f"{path.name if path.is_dir() else path.stem}.txt"
    if beside.is_file():
        return beside.read_text(encoding="utf-8", errors="replace").strip()
    return table.get(path.name, table.get(path.stem, ""))


def _captions(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.glob("*.csv")):
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            rows = csv.DictReader(file)
            if not {"file", "caption"} <= set(rows.fieldnames or ()):
                raise MotionError(f"{path} lacks the columns file and caption: name them in its first line")
            yield from ((row["file"], (row["caption"] or "").strip()) for row in rows)


def fitted(frames: Frames, width: int, height: int) -> Frames:
    """Frames ``[f, h, w, 3]`` scaled to cover ``width`` x ``height`` and cut to it around the middle."""
    scale = max(width / frames.shape[2], height / frames.shape[1])
    size = (max(width, round(frames.shape[2] * scale)), max(height, round(frames.shape[1] * scale)))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    box = (left, top, left + width, top + height)
    images = (Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC).crop(box) for frame in frames)
    return np.stack([np.asarray(image) for image in images])


@dataclass(frozen=True)
class Clips:
    """Clips as the posterior of their latents, from which each step draws `frames` of every `stride`-th.

    `files` hold ``moments``, ``[n, 8, h, w]`` (mean and deviation, scaled) and lie on the disk; `contexts` is the
    encoded caption of each, and the last one that of the empty caption, ``[clips + 1, tokens, width]``.
    """

    files: Sequence[Path]
    contexts: Tensor
    frames: int
    stride: int

    def clips(self, rng: np.random.Generator, count: int, text_drop: float) -> tuple[Tensor, Tensor]:
        """Random clips ``[count, frames, 4, h, w]`` and their contexts, some of them the empty caption's."""
        chosen = rng.integers(0, len(self.files), count)
        latents = [self._window(self.files[index], rng, self.frames) for index in chosen]
        return torch.stack(latents), self._contexts(chosen, rng, text_drop)

    def stills(self, rng: np.random.Generator, count: int, text_drop: float) -> tuple[Tensor, Tensor]:
        """One random frame each of random clips, ``[count, 4, h, w]``, and their contexts."""
        chosen = rng.integers(0, len(self.files), count)
        latents = [self._window(self.files[index], rng, 1)[0] for index in chosen]
        return torch.stack(latents), self._contexts(chosen, rng, text_drop)

    def _contexts(self, chosen: np.ndarray, rng: np.random.Generator, text_drop: float) -> Tensor:
        rows = np.where(rng.random(len(chosen)) < text_drop, len(self.files), chosen)
        return self.contexts[torch.from_numpy(rows)]

    def _window(self, path: Path, rng: np.random.Generator, frames: int) -> Tensor:
        with safe_open(path, framework="pt") as file:
            moments = file.get_slice("moments")
            indices = window(moments.get_shape()[0], frames, self.stride, rng)
            mean, deviation = torch.cat([moments[index : index + 1] for index in indices]).float().chunk(2, dim=1)
        return mean + deviation * torch.from_numpy(rng.standard_normal(mean.shape, dtype=np.float32))


def window(length: int, frames: int, stride: int, rng: np.random.Generator) -> list[int]:
    """Indices of `frames` frames, `stride` apart from a random one on; closer together where a clip is shorter."""
    span = min((frames - 1) * stride, length - 1)
    start = int(rng.integers(0, length - span))
    return [round(index) for index in np.linspace(start, start + span, frames)]


def encoded(
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
            _save(_moments(parts, fitted(read(source.path).frames, *size)), files[-1])
        elif _length(files[-1]) <= (frames - 1) * stride:
            _log.info("%s is shorter than %d frames %d apart: its frames lie closer", source.path, frames, stride)
    with torch.no_grad():
        texts = [source.caption for source in sources]
        contexts = [encode(parts.encoders, [text]).context[:, :77] for text in (*texts, "")]
    return Clips(files, torch.cat(contexts).float().cpu(), frames, stride)


def _length(path: Path) -> int:
    with safe_open(path, framework="pt") as file:
        return int(file.get_slice("moments").get_shape()[0])


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


def _save(moments: Tensor, path: Path) -> None:
    partial = path.with_suffix(".partial")
    try:
        safetensors.torch.save_file({"moments": moments.contiguous()}, partial)
        partial.replace(path)
    except OSError as error:
        raise MotionError(f"cannot save {path}: {error.strerror}; free some room and run it again") from error
    finally:
        partial.unlink(missing_ok=True)
