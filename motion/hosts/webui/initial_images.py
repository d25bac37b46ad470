"""The initial images of a clip in img2img: one for each frame, and a mask for each where it has one.

The hosts take one mask for all images of a batch, and hold all images at once: here their own way of encoding an image
is gone once for each frame, so that frames may come as a stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from PIL import Image

from motion import patching
from motion.hosts.controls import Pixels

ROWS = ("init_latent", "image_conditioning")
"""What the host's `init` leaves on `p`, one row for each image."""
LISTS = ("overlay_images", "color_corrections")
"""What it leaves there as a list, one for each image, or None."""
MASKS = ("mask", "nmask")
"""What it leaves there of a mask, ``[c, h, w]``."""


class Initial(NamedTuple):
    """What a frame begins with."""

    image: Any
    mask: Any = None
    """What of it is drawn anew; None: as the job has it."""


def frames_of(frames: Iterable[Pixels], behind: int = 0) -> Iterator[Any]:
    """The frames as pictures, which the host fits into its size as its user wants it; so many of what is drawn
    ``behind`` them are the last one."""
    for frame in frames:
        last = Image.fromarray(frame)
        yield last
    yield from [last] * behind


def encode_one_by_one(
    p: Any, given: Iterable[Initial], init: Callable[..., Any], args: Sequence[Any], named: Mapping[str, Any]
) -> list[Any]:
    """Let the host's ``init`` encode what is ``given`` for each frame; of its arguments, lists of prompts and seeds, it
    is told the frame's. The masks in the size of the frames, one for each, or none.

    What the host keeps of each is put together on ``p``, of the images the first.
    """
    rows: dict[str, list[Any]] = {name: [] for name in (*ROWS, *MASKS)}
    lists: dict[str, list[Any]] = {name: [] for name in LISTS}
    over, corrected, masked, first = [], p.color_corrections, False, None
    with ExitStack() as undo:
        for name in ("batch_size", "image_mask"):
            undo.callback(patching.restore_later(vars(p), name))
        p.batch_size = 1
        for number, (image, mask) in enumerate(given):
            first, masked = first or image, masked or mask is not None
            p.init_images, p.color_corrections = [image], corrected
            p.image_mask = p.image_mask if mask is None else mask
            own = slice(number, number + 1)
            init(*(each[own] for each in args), **{key: each[own] for key, each in named.items()})
            for name, parts in rows.items():
                parts.append(getattr(p, name))
            for name, found in lists.items():
                found += getattr(p, name, None) or []
            over.append(p.mask_for_overlay)
    p.init_images = [first]
    for name in ROWS:
        setattr(p, name, torch.cat(rows[name]))
    for name in MASKS if masked else ():
        setattr(p, name, torch.stack(rows[name]))
    for name, found in lists.items():
        setattr(p, name, found or None)
    return over if masked else []


def leave_overlays(p: Any) -> None:
    """Let the host put nothing over what it draws, which is but a part of the pictures."""
    p.overlay_images = p.color_corrections = p.mask_for_overlay = None
