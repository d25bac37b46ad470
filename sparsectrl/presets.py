"""What key frames are given for: where the images stand, and which kind of encoder shows them. Pure functions.

Source: Guo et al. 2023, "SparseCtrl" (arXiv:2311.16933), section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from motion.errors import MotionError
from sparsectrl.key_frames import spread

PICTURES, SKETCHES = "RGB", "scribble"
"""Kinds of encoders."""


@dataclass(frozen=True)
class Preset:
    """A use of key frames. ``where(images, frames)`` are the frames of ``least`` to ``most`` images (None: any)."""

    label: str
    help: str
    kind: str
    where: Callable[[int, int], list[int]]
    least: int = 1
    most: int | None = None

    def places(self, images: int, frames: int) -> list[str]:
        """The frames of so many images in a clip of ``frames``; its last is called -1, and so it stays.

        Raises MotionError for too few or too many images.
        """
        if not self.least <= images <= min(frames, self.most or frames):
            most = f" to {self.most or frames}" if self.most != self.least else ""
            raise MotionError(
                f"{self.label} takes {self.least}{most} images, and there are {images}: add or remove some"
            )
        last = frames - 1
        return ["-1" if place == last > 0 else str(place) for place in self.where(images, frames)]


def _evenly(images: int, frames: int) -> list[int]:
    return spread("uniform", images, frames)


def _first(images: int, frames: int) -> list[int]:
    return list(range(images))


def _every(images: int, frames: int) -> list[int]:
    """Those of a clip with fewer frames per second, which begins and lasts as this one does."""
    return [image * frames // images for image in range(images)]


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "image": Preset("Image to video", "one picture, with which the clip begins", PICTURES, _first, 1, 1),
        "pair": Preset("A to B", "two pictures, with which it begins and ends", PICTURES, _evenly, 2, 2),
        "storyboard": Preset("Storyboard", "pictures from beginning to end, at equal distances", PICTURES, _evenly),
        "prediction": Preset("Prediction", "the first frames of a clip, which goes on from them", PICTURES, _first),
        "interpolation": Preset(
            "Interpolation", "a clip of fewer frames per second, with frames put between them", PICTURES, _every
        ),
        "sketch": Preset("Sketch to video", "sketches from beginning to end, at equal distances", SKETCHES, _evenly),
    }
)
