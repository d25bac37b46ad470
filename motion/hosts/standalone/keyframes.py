"""Key frames of a clip: which images stand where, and what a SparseCtrl encoder is shown of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from motion.errors import MotionError
from motion.fields import Size
from motion.hosts.standalone.lora import split_weight
from motion.settings import Clip
from motion.video.read import read
from sparsectrl import keyframes

if TYPE_CHECKING:
    from torch import Tensor

    from sparsectrl import Effect, Influence, SparseEncoder

Pixels = npt.NDArray[np.uint8]
Option = tuple[Literal["sparsectrl", "keyframe"], str]


@dataclass
class Control:
    """An encoder's file and the images that it shows the clip: ``{frame: [height, width, 3]}`` of any size."""

    file: Path
    images: Mapping[int, Pixels]
    strength: Mapping[int, float] = field(default_factory=dict)
    """Of the images, by frame; left out: 1."""
    encoder: SparseEncoder | None = None
    """What is used instead of the file's, as it is."""
    effect: Effect | None = field(default=None, init=False)
    """What the encoder did, once the clip is drawn."""


def gather(options: Sequence[Option], frames: int) -> list[Control]:
    """The controls of a clip of ``frames``, from the options in the order they were given.

    ``sparsectrl`` names an encoder's file, ``keyframe`` images for the encoder before it (the first: also for that
    behind): ``WHERE=IMAGE``, or ``WHERE=IMAGE=strength``. The images are a picture, or a folder or clip of as many as
    ``WHERE`` names (`sparsectrl.keyframes.parse`). Raises MotionError naming what is missing or does not fit.
    """
    files = [text for name, text in options if name == "sparsectrl"]
    images: list[list[str]] = [[] for _ in files]
    encoder = 0
    for name, text in options:
        if name == "sparsectrl":
            encoder += 1
        elif not files:
            raise MotionError(f"the key frame {text} has no encoder: give a SparseCtrl file with --sparsectrl FILE")
        else:
            images[max(encoder - 1, 0)].append(text)
    return [_control(Path(file), texts, frames) for file, texts in zip(files, images, strict=True)]


def _control(file: Path, texts: list[str], frames: int) -> Control:
    if not file.is_file():
        raise MotionError(f"SparseCtrl encoder {file} does not exist: give a SparseCtrl file")
    if not texts:
        raise MotionError(f"the SparseCtrl encoder {file} has no key image: give one with --keyframe FRAME=IMAGE")
    places: list[int] = []
    images: list[Pixels] = []
    strengths: list[float] = []
    for text in texts:
        where, equals, rest = text.partition("=")
        if not equals:
            raise MotionError(f"key frame is {text}: give FRAME=IMAGE, such as 0=first.png")
        path, weight = split_weight(rest)
        pictures = read(path).frames
        places += keyframes.parse(where, frames, len(pictures))
        images += list(pictures)
        strengths += [_strength(weight)] * len(pictures)
    keyframes.places(places, frames)
    by_frame = dict(sorted(zip(places, images, strict=True)))
    return Control(
        file, by_frame, {place: weight for place, weight in zip(places, strengths, strict=True) if weight != 1}
    )


def _strength(text: str) -> float:
    try:
        strength = float(text)
    except ValueError:
        strength = math.nan
    if not 0 < strength <= 10:
        raise MotionError(f"key frame strength is {text}: give a number above 0, to 10")
    return strength


def influence(clip: Clip) -> Influence:
    """The clip's settings, as `sparsectrl.attach` takes them."""
    from sparsectrl import Influence

    return Influence(clip.key_scale, clip.on_keys, clip.off_keys, clip.key_start, clip.key_end)


def condition(control: Control, encoder: SparseEncoder, vae: Any, clip: Clip, frames: int) -> Tensor:
    """What ``encoder`` is shown in the ``frames`` that are drawn, ``[frames, C + 1, H, W]``.

    Latents from ``vae`` or pixels, as its file asks for.
    Latents are the mean of what the VAE gives, so the same images are the same key frames each time.
    Raises MotionError for an encoder of neither latents, colours nor shades.
    """
    import torch

    import sparsectrl

    pictures = np.stack([fitted(image, clip.size, clip.key_fit) for image in control.images.values()])
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255
    if not encoder.shape.embedding:
        latents = [vae.encode((2 * image[None] - 1).to(vae.device, vae.dtype)).latent_dist.mean for image in pixels]
        shown = torch.cat(latents) * vae.config.scaling_factor
    elif encoder.shape.condition in (1, 3):
        shown = pixels if encoder.shape.condition == 3 else pixels.mean(1, keepdim=True)
    else:
        raise MotionError(
            f"{control.file} takes key images of {encoder.shape.condition} channels: give one that takes 3"
        )
    return sparsectrl.condition(dict(zip(control.images, shown, strict=True)), frames, control.strength)


def fitted(image: Pixels, size: Size, how: str) -> Pixels:
    """``image`` in the clip's size: filled and cut to its middle ("crop"), or all of it between black bars ("pad")."""
    fit = ImageOps.fit if how == "crop" else ImageOps.pad
    return np.asarray(fit(Image.fromarray(image), (size.width, size.height), Image.Resampling.LANCZOS))


def check_effects(controls: Sequence[Control], ended: bool) -> None:
    """Raise MotionError, naming its file, for a control that does nothing or nothing finite."""
    for control in controls:
        try:
            if control.effect is not None:
                control.effect.check(ended)
        except MotionError as error:
            raise MotionError(f"{control.file}: {error}") from error


def digest(controls: Sequence[Control]) -> str:
    """A text that is another one for other images, frames or strengths; empty without controls."""
    pairs = ((control, *pair) for control in controls for pair in control.images.items())
    shown = [(frame, control.strength.get(frame), image.shape, image.tobytes()) for control, frame, image in pairs]
    return hashlib.sha256(repr(shown).encode()).hexdigest() if controls else ""


def told(controls: Sequence[Control]) -> dict[str, str]:
    """What infotext says of the controls: their frames, each with a strength that is not 1, and what they came to."""
    frames = [
        " ".join(
            f"{frame}={control.strength[frame]:g}" if frame in control.strength else str(frame)
            for frame in control.images
        )
        for control in controls
    ]
    strengths = [f"{control.effect.strength:.3f}" for control in controls if control.effect is not None]
    return {
        "SparseCtrl": "; ".join(control.file.stem for control in controls),
        "Key frames": "; ".join(frames),
        "SparseCtrl strength": "; ".join(strengths),
    }
