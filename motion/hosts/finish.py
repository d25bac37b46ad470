"""Decoded frames as they are shown: the same in every host."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from motion.fields.table import Size
from motion.hosts.controls import Control, Pixels, fit_image
from motion.settings.settings import Clip
from motion.settings.tab import Tab
from motion.techniques.registry import techniques_of
from motion.techniques.technique import Techniques
from motion.video import brightness, colours

if TYPE_CHECKING:  # at run time torch comes last
    from torch import Tensor


def finish_frames(
    frames: Iterable[Any],
    order: Sequence[int],
    settings: Clip | Tab,
    controls: Sequence[Control],
    again: Callable[[list[int]], Iterable[Any]],
) -> Iterator[Any]:
    """The frames as they are shown, of which ``order`` has the numbers: with colours matched and steadied as the
    settings say, and what techniques make of those with a key image. ``again`` gives frames by their numbers once more.

    When the last is taken the controls know how far the brightness of their key frames had jumped before. Where there
    is nothing to do the frames are as they come.
    """
    keys = {frame for control in controls for frame in control.images}
    levels: dict[int, float] = {}
    shown = _noted(frames, order, levels) if keys else iter(frames)
    if settings.colour_match:
        shown = colours.match_colours(shown, {place for place, frame in enumerate(order) if frame in keys})
    if settings.steady_colours:
        of_all = colours.usual(again(colours.spread_evenly(sorted(set(order)))))
        shown = colours.steady_colours(shown, of_all, settings.steady_colours)
    if (techniques := techniques_of(settings)).have("finish"):
        images = {frame: image for control in controls for frame, image in control.images.items()}
        shown = _held(shown, order, images, settings.key_fit, techniques)
    yield from shown
    found = brightness.jumps(levels, keys)
    for control in controls:
        own = {frame: jump for frame, jump in found.by_frame.items() if frame in control.images}
        control.jumps = replace(found, by_frame=own)


def shown_pixels(image: Tensor) -> Pixels:
    """A decoded picture ``[3, h, w]`` from 0 to 1 as the WebUIs show it, ``[h, w, 3]``."""
    return np.ascontiguousarray((255 * image.movedim(0, -1).float().cpu().numpy()).astype(np.uint8))


def _noted(frames: Iterable[Any], order: Sequence[int], levels: dict[int, float]) -> Iterator[Any]:
    for number, frame in zip(order, frames, strict=True):
        levels[number] = brightness.brightness(frame)
        yield frame


def _held(
    frames: Iterable[Any], order: Sequence[int], images: Mapping[int, Pixels], fit: str, techniques: Techniques
) -> Iterator[Any]:
    """The frames, of which those with an image are what ``techniques`` make of both."""
    for number, frame in zip(order, frames, strict=True):
        if number in images:
            image = fit_image(images[number], Size(frame.shape[1], frame.shape[0]), fit)
            yield techniques.finish(number, frame, image.astype(frame.dtype))
        else:
            yield frame
