"""What the frames of clips show an encoder in training: themselves, sketches of themselves, or images beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from motion.errors import MotionError
from motion.fields.weighted import Weighted
from motion.training import masks
from motion.training.folder import Source, find, fit_frame, length
from motion.video.read import Frames, open_clip
from motion.video.sketch import sketch
from motion.weights.files import save_whole

CONDITIONS = ("rgb", "scribble")
"""What can be made of the frames: their latents, or edge sketches (`motion.video.sketch`)."""


@dataclass(frozen=True)
class Condition:
    """What an encoder learns to obey.

    One of `CONDITIONS`, or the images in `folder`: for each clip a clip, or a folder of frames, of the same name, with
    an image for each of its frames (depth, poses ...). `mixture` says which frames it is shown in a step
    (`motion.training.masks`); `small` leaves all that is copied from the image model as it is, so that the optimiser
    holds a third. `per_frame`: an encoder without temporal layers, which is a ControlNet of each frame on its own.
    """

    made: str = "rgb"
    folder: Path | None = None
    mixture: Sequence[Weighted] = masks.MIXTURE
    small: bool = False
    per_frame: bool = False

    def __post_init__(self) -> None:
        masks.check(self.mixture)
        if self.made not in CONDITIONS:
            raise MotionError(f"condition is {self.made}: choose one of {', '.join(CONDITIONS)}, or give a folder")

    @property
    def kind(self) -> str:
        """What the encoder's file says of it: that word, or the folder's name."""
        return self.made if self.folder is None else self.folder.resolve().name

    @property
    def name(self) -> str:
        """What such an encoder is called."""
        return f"{self.kind}-per-frame" if self.per_frame else self.kind

    @property
    def latent(self) -> bool:
        """Whether the encoder is shown latents instead of pixels."""
        return self.folder is None and self.made == "rgb"

    def images_for(self, sources: Sequence[Source]) -> list[Source]:
        """For each clip what its images are made of. Raises MotionError for a clip without images in the folder."""
        if self.folder is None:
            return list(sources)
        images = {source.name: source for source in find(self.folder)}
        missing = next((source for source in sources if source.name not in images), None)
        if missing is not None:
            raise MotionError(f"{self.folder} holds no images for {missing.path}: put a clip of that name there")
        return [images[source.name] for source in sources]

    def images(self, shown: Source, size: tuple[int, int]) -> Frames:
        """What the frames of a clip show the encoder, made of ``shown``: ``[n, height, width, 3]`` of that size."""
        frames = np.stack([fit_frame(frame, *size) for frame in open_clip(shown.path).frames()])
        return sketch(frames) if self.folder is None and not self.latent else frames


def pictures(
    condition: Condition, sources: Sequence[Source], clips: Sequence[Path], cache: Path, size: tuple[int, int]
) -> list[Path]:
    """For each of `sources` a file in `cache` with what its frames show, ``pixels``, uint8 ``[n, 3, height, width]``.

    `clips` are the encoded clips. Raises MotionError where there is not one image for each frame.
    """
    files = []
    for source, shown, clip in zip(sources, condition.images_for(sources), clips, strict=True):
        key = hashlib.sha256(f"{shown.digest()} {size} {condition.folder is None}".encode()).hexdigest()
        files.append(cache / f"{key[:24]}.safetensors")
        if not files[-1].exists():
            images = np.ascontiguousarray(condition.images(shown, size))
            save_whole({"pixels": torch.from_numpy(images).permute(0, 3, 1, 2)}, files[-1])
        if length(files[-1]) != length(clip):
            raise MotionError(
                f"{shown.path} holds {length(files[-1])} images for the {length(clip)} frames of {source.path}: "
                "give one for each frame"
            )
    return files
