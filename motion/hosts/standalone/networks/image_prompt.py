"""Pictures that frames are drawn after: an IP-Adapter with its image encoder, and which picture stands at which frame.

Between two pictures a frame is given a mix of their embeddings, as prompts travel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

from motion.errors import MotionError
from motion.fields.curve import Value
from motion.fields.curve_text import read_curve
from motion.fields.varying import read_value
from motion.hosts.controls import Pixels
from motion.hosts.standalone.formats.folder import no_progress_bars
from motion.hosts.standalone.networks.lora import split_weight
from motion.sampling import ip_adapter
from motion.sampling.arrangement import Arrangement
from motion.sampling.ip_adapter import IPAdapter
from motion.sampling.rows import Rows
from motion.settings.prompts import linear, mix_keys
from motion.video.read import read
from motion.weights.paths import check_file
from sparsectrl import key_frames as placing

SIDE = 224
MEAN, SPREAD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""What CLIP's image encoders are shown (Radford et al. 2021, arXiv:2103.00020, and their code)."""
MOST = 5
"""Bound of a scale."""


@dataclass(frozen=True)
class ImagePrompt:
    """An IP-Adapter's file, its scale, a number or a curve, pictures ``{frame: [height, width, 3]}``, and the folder of
    its encoder."""

    file: Path
    scale: Value
    images: Mapping[int, Pixels]
    encoder: Path

    def __str__(self) -> str:
        """The file and the scale, the frames and a hash that other pictures do not have."""
        shown = repr([(frame, image.shape, image.tobytes()) for frame, image in self.images.items()])
        frames = " ".join(map(str, self.images))
        scale = self.scale if isinstance(self.scale, str) else f"{self.scale:g}"
        return f"{self.file.stem}: {scale}, frames {frames} ({hashlib.sha256(shown.encode()).hexdigest()[:10]})"

    @torch.no_grad()
    def encode(self, adapter: IPAdapter, frames: int, drawn: int, closed: bool) -> tuple[Tensor, Tensor]:
        """Image tokens of each frame that is drawn, ``[drawn, tokens, C]``, and of the negative prompt, ``[1, ...]``.

        Raises MotionError for a folder without an image encoder, or with another one than the adapter was made for.
        """
        encoder = _open_encoder(self.encoder).to(next(adapter.parameters()).device)
        names = {frame: str(number) for number, frame in enumerate(self.images)}
        pictures = torch.stack([_preprocess(image) for image in self.images.values()])
        if adapter.pooled:
            found = _encode(encoder, pictures).image_embeds
            nothing = torch.zeros_like(found[:1])
        else:
            both = torch.cat([torch.zeros_like(pictures[:1]), pictures])
            nothing, found = _encode(encoder, both).hidden_states[-2].split([1, len(pictures)])
        mixes = mix_keys(names, frames, closed, drawn)
        each = [linear(found[int(mix.first)], found[int(mix.second)], mix.weight) for mix in mixes]
        return adapter.tokens(torch.stack(each)), adapter.tokens(nothing)

    @contextmanager
    def attach(self, unet: nn.Module, arrangement: Arrangement, frames: int, closed: bool) -> Iterator[ImageTokens]:
        """The scope in which ``unet`` draws after the pictures; each call has to `ImageTokens.take` its rows."""
        some = next(unet.parameters())
        adapter = ip_adapter.load(self.file).to(some.device, some.dtype)
        tokens = ImageTokens(*self.encode(adapter, frames, arrangement.frames, closed))
        with ip_adapter.attach_tokens(unet, adapter, tokens, arrangement, frames, self.scale):
            yield tokens


class ImageTokens:
    """The image tokens of the rows of a call: told which frames and groups they are, it gives them."""

    def __init__(self, frames: Tensor, negative: Tensor) -> None:
        self._all = torch.cat([frames, negative])
        self._rows: list[int] = []

    def take(self, frames: Sequence[int], negative: Sequence[bool]) -> None:
        """The call that follows has these frames; of the negative prompt where ``negative``."""
        self._rows = [len(self._all) - 1 if no else frame for frame, no in zip(frames, negative, strict=True)]

    def __call__(self, batch: int) -> Tensor:
        return Rows(self._rows).of(self._all)


def gather(adapter: str | None, images: Sequence[str], encoder: Path | None, frames: int) -> ImagePrompt | None:
    """The image prompt of a clip of ``frames`` from `FILE[=SCALE|CURVE]` and any number of `FRAME=IMAGE` or `IMAGE`.

    Raises MotionError naming what is missing or does not fit.
    """
    if adapter is None:
        if images or encoder is not None:
            raise MotionError("there is no IP-Adapter for the image: give its file with --ip-adapter FILE")
        return None
    file, scale = split_weight(adapter)
    check_file(file, "IP-Adapter")
    if not images:
        raise MotionError(f"the IP-Adapter {file} has no image: give one with --ip-image FRAME=IMAGE")
    if encoder is None:
        raise MotionError(f"the IP-Adapter {file} has no image encoder: give its folder with --image-encoder DIR")
    found: dict[int, Pixels] = {}
    for text in images:
        where, equals, path = text.partition("=")
        if not equals or Path(text).exists():
            where, path = "0", text
        pictures = read(path).frames
        found |= zip(placing.parse(where, frames, len(pictures)), pictures, strict=True)
    placing.places(list(found), frames)
    strength = read_value(scale, "the scale of the IP-Adapter", 0, MOST)
    read_curve(strength).placed(frames)
    return ImagePrompt(file, strength, dict(sorted(found.items())), encoder)


def _open_encoder(folder: Path) -> nn.Module:
    remedy = "give the folder with its config.json, such as models/image_encoder of the published IP-Adapters"
    if not (folder / "config.json").is_file():
        raise MotionError(f"image encoder {folder} is none: {remedy}")
    try:
        with no_progress_bars():
            model: nn.Module = CLIPVisionModelWithProjection.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise MotionError(f"image encoder {folder} cannot be read: {remedy}") from error
    return model.eval()


def _encode(encoder: nn.Module, pictures: Tensor) -> Any:
    some = next(encoder.parameters())
    return encoder(pictures.to(some), output_hidden_states=True)


def _preprocess(image: Pixels) -> Tensor:
    """A picture as the encoder is shown it, ``[3, 224, 224]``: the square in its middle."""
    picture = Image.fromarray(image)
    factor = SIDE / min(picture.size)
    width, height = (max(SIDE, round(factor * side)) for side in picture.size)
    left, top = (width - SIDE) // 2, (height - SIDE) // 2
    resized = picture.resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(resized.crop((left, top, left + SIDE, top + SIDE)), np.float32) / 255
    return torch.from_numpy((pixels - MEAN) / SPREAD).float().movedim(-1, 0)
