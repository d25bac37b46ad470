"""How the standalone host lays out a clip."""

from __future__ import annotations

from motion.errors import MotionError
from motion.hosts.memory import SPARING_ROWS
from motion.models.motion.model import MotionModel
from motion.sampling.windows import Windows, plan
from motion.settings.settings import Clip

STILLS_AT_ONCE = 16
"""Frames without a motion module that go through the UNet together."""

ROWS_AT_ONCE = 32
"""Frames that a spatial layer takes at a time in the engine that runs the UNet for all: two windows of the usual 16."""
GUIDED_AT_ONCE = 16 * 512 * 512
"""Pixels of frames, counted for each pass, up to which prompt and negative prompt go through the UNet together where a
clip is cut into windows, and what techniques ask for with them; larger frames keep it busy one pass after the other, in
less memory."""
HELD_AT_ONCE = 256 * 512 * 512
"""Pixels of frames up to which a step's latents and predictions are on the device, 64 MB in float16."""


def rows_at_once(windows: Windows, sparing: bool) -> int | None:
    """Frames that a spatial layer takes at a time; None: all of a call."""
    if sparing:
        return SPARING_ROWS
    return ROWS_AT_ONCE if windows.cut and windows.engine == "attention" else None


def windows_of(clip: Clip, module: MotionModel | None, base: str | None = None) -> Windows:
    """How the clip is taken through the UNet, and how many frames are drawn.

    Without a module frames do not see each other, and a few go at a time, unless they are to look at others. Raises
    MotionError unless the module was made for `base` and the settings fit it.
    """
    if module is not None and clip.zero_shot:
        raise MotionError("zero-shot is for clips without a motion module: leave out one of them")
    if module is None and clip.cross_frame_mode(clip.zero_shot) != "none":
        return plan(clip, None)
    if module is None:
        return Windows(clip.frames, STILLS_AT_ONCE, schedule="batched", fuse="flat")
    architecture = module.architecture
    if base not in (None, architecture.family.base):
        raise MotionError(
            f"the motion module is made for {architecture.family.base} and the checkpoint is {base}: "
            f"choose a motion module for {base}"
        )
    return plan(clip, architecture)
