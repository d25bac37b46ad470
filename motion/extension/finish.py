"""What becomes of a clip's pictures between the host's decoding and its saving."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from motion.hosts.controls import Control, describe_controls
from motion.hosts.finish import finish_frames, shown_pixels
from motion.hosts.source import Source
from motion.hosts.webui.source import MASK_BLUR
from motion.settings.tab import Tab
from motion.weights.library import short_hash


def put_back(kept: Source, p: Any, images: list[Tensor]) -> None:
    """Let a clip's ``images [3, H, W]`` from 0 to 1 be what is ``kept`` of the source where its mask shows nothing."""
    blur = getattr(p, "mask_blur", MASK_BLUR) or 0
    whole = kept.put_back(map(shown_pixels, images), range(len(images)), len(images), blur)
    images[:] = [torch.from_numpy(frame / 255).movedim(-1, 0).to(images[0]) for frame in list(whole)]


def finish(p: Any, tab: Tab, controls: Sequence[Control], images: list[Tensor]) -> None:
    """Match and steady colours in a clip's ``images [3, H, W]`` from 0 to 1 as the tab says; say what the controls
    have done.

    It goes to the log and into the infotext of the pictures. A picture that is to stay is not touched.
    """
    if not controls and not tab.steady_colours:
        return
    frames = [image.movedim(0, -1).float().cpu().numpy() * 255 for image in images]
    shown = finish_frames(frames, range(len(frames)), tab, controls, lambda some: [frames[number] for number in some])
    for number, frame in enumerate(shown):
        if frame is not frames[number]:
            images[number] = torch.from_numpy(frame / 255).movedim(-1, 0).to(images[number])
    if controls:
        said = {key: text for key, text in describe_controls(controls).items() if text}
        sys.stdout.write(f"Motion: {', '.join(f'{key} {text}' for key, text in said.items())}\n")
        hashes = "; ".join(short_hash(control.file) for control in controls if control.file)
        p.extra_generation_params.update({**said, "SparseCtrl hash": hashes})
