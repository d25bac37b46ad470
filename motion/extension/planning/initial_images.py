"""What the frames begin with in img2img."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import cycle, islice, repeat
from typing import Any

from motion.errors import MotionError
from motion.extension.planning import source as sources
from motion.fields.table import Size
from motion.hosts.source import Source
from motion.hosts.webui.initial_images import Initial, frames_of
from motion.settings.tab import Tab


def given(
    p: Any, tab: Tab, drawn: int, clip: Source | None, kept: Source | None
) -> Callable[[], Iterable[Initial]] | None:
    """What img2img begins with, where frames have images or masks of their own; see `settle`."""
    mask = sources.open_mask(p, tab, clip)
    if not hasattr(p, "init_images") or (clip is None and mask is None):
        return None
    images, count, size = p.init_images, tab.frames, Size(p.width, p.height)
    pictures = partial(frames_of, behind=drawn - count)

    def each() -> Iterator[Initial]:
        if kept is not None:
            return map(Initial, pictures(kept.frames(count, size)), pictures(kept.masks(count, size, 0)))
        of_frames = islice(cycle(images), drawn) if clip is None else pictures(clip.pictures(count))
        return map(Initial, of_frames, repeat(None) if mask is None else pictures(mask.pictures(count)))

    return each


def settle(p: Any, frames: int, drawn: int, clip: Source | None) -> None:
    """img2img: one initial image for all frames, or one for each; what is drawn besides begins with the last one. The
    source clip's first frame stands for all of its."""
    if clip is not None and hasattr(p, "init_images"):
        p.init_images = list(frames_of(clip.pictures(1)))
    images = getattr(p, "init_images", None) or []
    if len(images) > 1 and all(image is images[0] for image in images):
        images = p.init_images = images[:1]  # the host's batch tab gives one per picture of the batch
    if len(images) not in (0, 1, frames, drawn):
        raise MotionError(f"{len(images)} initial images for {frames} frames: give one, or one for each frame")
    if len(images) > 1:
        p.init_images = [*images, *images[-1:] * (drawn - len(images))]
