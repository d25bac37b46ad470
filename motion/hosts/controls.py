"""Key frames as SparseCtrl encoders are shown them, and what came of them: the same in every host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from motion.errors import MotionError
from motion.fields.curve import Value
from motion.fields.curve_text import read_curve
from motion.fields.table import Size
from motion.settings.key_frames import KeyFrames
from motion.video import brightness

if TYPE_CHECKING:  # at run time torch comes last
    from torch import Tensor

    from sparsectrl import Effect, Influence, SparseEncoder

Pixels = npt.NDArray[np.uint8]


@dataclass
class Control:
    """An encoder's file and the images that it shows the clip: ``{frame: [height, width, 3]}`` of any size.

    Without a file no encoder is shown the images: they are given to the techniques that hold frames.
    """

    file: Path | None
    images: Mapping[int, Pixels]
    strength: Mapping[int, Value] = field(default_factory=dict)
    """Of the images, by frame, each a number or a curve over steps; left out: 1."""
    encoder: SparseEncoder | None = None
    """What is used instead of the file's, as it is."""
    effect: Effect | None = field(default=None, init=False)
    """What the encoder did, once the clip is drawn."""
    jumps: brightness.Jumps | None = field(default=None, init=False)
    """How much lighter its key frames came out, once the frames are decoded."""


def influence(settings: KeyFrames, frames: int, control: Control) -> Influence:
    """The settings of a clip of ``frames`` for ``control``, as `sparsectrl.attach` takes them."""
    from sparsectrl import Influence

    keys = {frame: strength for frame, strength in control.strength.items() if read_curve(strength).over_steps}
    scales, span = (settings.key_scale, settings.on_keys, settings.off_keys), (settings.key_start, settings.key_end)
    return Influence(*scales, *span, settings.key_nearest, frames, settings.key_blocks, settings.key_motion, keys)


def condition(
    control: Control,
    encoder: SparseEncoder,
    encode: Callable[[Tensor], Tensor],
    settings: KeyFrames,
    size: Size,
    frames: int,
) -> Tensor:
    """What ``encoder`` is shown in the ``frames`` that are drawn in ``size``, ``[frames, C + 1, H, W]``.

    Latents or pixels, as its file asks for, of images fitted as the settings say (`fit_image`). ``encode`` makes a
    picture, ``[1, 3, H, W]`` from 0 to 1, into latents, the mean of what the VAE gives: so the same images are the same
    key frames each time. Raises MotionError for an encoder of neither latents, colours nor shades.
    """
    import torch

    import sparsectrl

    pictures = np.stack([fit_image(image, size, settings.key_fit) for image in control.images.values()])
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255
    if not encoder.shape.embedding:
        shown = torch.cat([encode(image[None]) for image in pixels])
    elif encoder.shape.condition in (1, 3):
        shown = pixels if encoder.shape.condition == 3 else pixels.mean(1, keepdim=True)
    else:
        raise MotionError(
            f"{control.file} takes key images of {encoder.shape.condition} channels: give one that takes 3"
        )
    images = dict(zip(control.images, shown, strict=True))
    strengths = {frame: read_curve(strength) for frame, strength in control.strength.items()}
    steady = {frame: curve.at(frames)[frame] for frame, curve in strengths.items() if not curve.over_steps}
    return sparsectrl.condition(images, frames, steady, settings.key_mask)


def fit_image(image: Pixels, size: Size, how: str) -> Pixels:
    """``image`` in the clip's size: filled and cut to its middle ("crop"), or all of it between black bars ("pad")."""
    fit = ImageOps.fit if how == "crop" else ImageOps.pad
    return np.asarray(fit(Image.fromarray(image), (size.width, size.height), Image.Resampling.LANCZOS))


def given_latents(
    controls: Sequence[Control], encode: Callable[[Tensor], Tensor], how: str, size: Size
) -> dict[int, Tensor]:
    """The latents ``[c, h, w]`` of all key images by their frames, fitted and encoded as for `condition`."""
    import torch

    images = {frame: image for control in controls for frame, image in control.images.items()}
    pictures = {frame: torch.from_numpy(fit_image(image, size, how).copy()) for frame, image in images.items()}
    return {frame: encode(picture.permute(2, 0, 1)[None] / 255)[0] for frame, picture in sorted(pictures.items())}


def check_effects(controls: Sequence[Control], ended: bool) -> None:
    """Raise MotionError, naming its file, for a control that does nothing or nothing finite."""
    for control in controls:
        try:
            if control.effect is not None:
                control.effect.check(ended)
        except MotionError as error:
            raise MotionError(f"{control.file}: {error}") from error


def describe_controls(controls: Sequence[Control]) -> dict[str, str]:
    """What infotext says of the controls: their frames, each with a strength that is not 1, and what they came to."""
    frames = [
        " ".join(
            f"{frame}={_spelled(control.strength[frame])}" if frame in control.strength else str(frame)
            for frame in control.images
        )
        for control in controls
    ]
    strengths = [f"{control.effect.strength:.3f}" for control in controls if control.effect is not None]
    return {
        "SparseCtrl": "; ".join(control.file.stem for control in controls if control.file is not None),
        "Key frames": "; ".join(frames),
        "SparseCtrl strength": "; ".join(strengths),
        "Key frame jumps": "; ".join(str(control.jumps) for control in controls if control.jumps is not None),
    }


def _spelled(strength: Value) -> str:
    return f'"{strength}"' if isinstance(strength, str) else f"{strength:g}"
