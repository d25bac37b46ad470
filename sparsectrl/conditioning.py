"""What an encoder is shown: key frames where there are some, and zeros elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from motion.errors import MotionError
from sparsectrl import key_frames as placing


def condition(
    images: Mapping[int, Tensor], frames: int, strength: float | Mapping[int, float] = 1.0, mask: float = 1.0
) -> Tensor:
    """``{frame: [C, H, W]}`` as ``[frames, C + 1, H, W]``: the images at their frames, the last channel a mask.

    Everywhere else image and mask are 0. Negative frames count from the end. The images are latents for an RGB encoder,
    for others pixels in [0, 1]. ``strength``, one number or one for each frame (left out: 1), multiplies an image and
    its mask: at 0 the frame has no key. ``mask`` multiplies the masks besides. No images at all are a condition without
    keys, ``[frames, 1, 1, 1]``.

    Raises MotionError for a frame that is out of range or stands twice, and for images of different shapes.
    """
    if not images:
        return torch.zeros(frames, 1, 1, 1)
    places = dict(zip(images, placing.places(list(images), frames), strict=True))
    first = next(iter(images.values()))
    odd = next((frame for frame, image in images.items() if image.shape != first.shape or image.ndim != 3), None)
    if odd is not None:
        raise MotionError(
            f"the key image of frame {odd} is {list(images[odd].shape)} and that of frame {next(iter(images))} "
            f"{list(first.shape)}: give all images the same [channels, height, width]"
        )
    result = first.new_zeros(frames, len(first) + 1, *first.shape[1:])
    for frame, image in images.items():
        weight = strength.get(frame, 1.0) if isinstance(strength, Mapping) else strength
        result[places[frame], :-1] = image * weight
        result[places[frame], -1] = weight * mask
    return result


def key_frames(condition: Tensor) -> list[int]:
    """The frames of ``condition [frames, C + 1, H, W]`` with a key: those whose mask is not 0 everywhere."""
    return [int(frame) for frame in condition[:, -1].flatten(1).any(1).nonzero()]


def mask_condition(condition: Tensor) -> Tensor:
    """``condition [..., C + 1, H, W]`` with 0 wherever its mask is 0, whatever stands there, NaN included."""
    return torch.where(condition[..., -1:, :, :] != 0, condition, 0)
