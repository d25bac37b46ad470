"""The source clip of a job and its mask: from the tab's settings to the frames that they give."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from motion.errors import MotionError
from motion.extension import places
from motion.fields.table import Number, Size
from motion.hosts.continuation import Continuation
from motion.hosts.controls import Pixels
from motion.hosts.only_masked import OnlyMasked
from motion.hosts.regions import Regions
from motion.hosts.source import Measures, Source
from motion.hosts.webui import checks
from motion.hosts.webui.backends.base import host_module, option
from motion.hosts.webui.beside import adetailer
from motion.hosts.webui.continuation import Continued
from motion.hosts.webui.prompt import count_parts
from motion.settings.source import parse_range
from motion.settings.tab import TAB_FIELDS, Tab
from motion.video.captions import write_missing
from motion.video.structure import blur_structure
from motion.video.write import write
from motion.weights.library import short_hash

LONGEST_PATH = 1024
FRAMES, RATE = TAB_FIELDS["frames"], TAB_FIELDS["fps"]
OUTPUTS = ("outdir_samples", "outdir_txt2img_samples", "outdir_img2img_samples", "outdir_videos")
"""The host's settings that say where clips lie."""
FAILED = "<error>"
"""What the host's interrogator says where it failed."""
HASH = "Motion source hash"
"""The key of a file's digits in infotext."""
IDLE = (
    "the source clip feeds nothing: turn Video to video or Source for ControlNet on, or give Key frames every a number"
)


def open_source(tab: Tab) -> Source | None:
    """The tab's source clip; None without one. Raises MotionError for a path that may not be read and for what is no
    clip."""
    if not tab.source.strip():
        return None
    start, stop = parse_range(tab.source_range)
    clip = Source(find(tab.source), start, stop, tab.source_every, fps=tab.source_fps or None)
    clip.measure(1)
    return clip


def open_continuation(tab: Tab, clip: Source | None, size: Size) -> Continued | None:
    """The source clip as one that goes on in ``size``; None where it does not. Raises MotionError where it cannot."""
    connects = bool(tab.connect.strip())
    if clip is None or not tab.extend:
        if connects:
            raise MotionError("Connect to is of a source clip that goes on: give one, and Extend how many frames of it")
        return None
    if tab.key_frames or tab.source_keys or tab.source_control:
        raise MotionError(
            "a clip that goes on is given its own last frames alone: take key frames and Source for ControlNet away, "
            "or set Extend to 0"
        )
    onto = Source(find(tab.connect)) if connects else None
    path = Continuation(clip, tab.extend, tab.extend_to or None, onto)
    path.check(tab)
    return Continued(path, tab.frames, size)


def detect_masks(tab: Tab, clip: Source | None, undo: ExitStack) -> Tab:
    """The tab with a clip of the masks that ADetailer finds in the frames of ``clip``, which is there until ``undo`` is
    closed. Raises MotionError as `adetailer.detect`."""
    if not (name := tab.mask_detector.strip()):
        return tab
    if clip is None:
        raise MotionError("ADetailer finds masks in a source clip: give one with Video to video, or no detector")
    if tab.mask_clip.strip():
        raise MotionError(f"masks come from {tab.mask_clip:.80} or from ADetailer: leave one of them out")
    path = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="motion-"))) / "masks"
    masks = adetailer.detect(name, clip.pictures(tab.frames))
    write((np.stack([mask] * 3, -1) for mask in masks), path, tab.fps, "")
    return replace(tab, mask_clip=str(path))


def open_mask(p: Any, tab: Tab, clip: Source | None) -> Source | None:
    """The tab's mask clip, of which those frames are used that belong to ``clip``'s; None without one.

    Raises MotionError for a path that may not be read, what is no clip, and where the host has no place for it.
    """
    if not tab.mask_clip.strip():
        return None
    mask = Source(find(tab.mask_clip)) if clip is None else _masked(clip, tab).mask_clip()
    mask.measure(1)
    if not hasattr(p, "init_images"):
        if clip is None:
            raise MotionError("a mask clip in txt2img is of a source clip: give one with Video to video, or no mask")
    elif p.inpaint_full_res and clip is None:
        raise MotionError(
            "only what a mask clip shows is drawn of a source clip: give one with Video to video, or set Inpaint area "
            "(inpaint_full_res) to the whole picture"
        )
    return mask


def open_kept(p: Any, tab: Tab, clip: Source | None) -> Source | None:
    """What stays of ``clip`` around what is drawn, where the host does not see to it: in txt2img all but what the tab's
    mask clip shows, in img2img, where the Inpaint area is that alone, all around a part that is drawn as a clip of its
    own. Raises MotionError for a mask as `open_mask`, and for formats of other sizes."""
    if clip is None or not tab.mask_clip.strip():
        return None
    if not hasattr(p, "init_images"):
        return _masked(clip, tab)
    if not p.inpaint_full_res:
        return None
    found = OnlyMasked(**vars(_masked(clip, tab)), padding=p.inpaint_full_res_padding)
    height, width = next(clip.pictures(1)).shape[:2]
    checks.check_output(Size(width, height), tab)
    return found


def _masked(clip: Source, tab: Tab) -> Source:
    """``clip`` with the tab's mask clip, which may be `detect_masks`' own."""
    by_use = bool(tab.mask_detector.strip())
    return replace(clip, mask=Path(tab.mask_clip) if by_use else find(tab.mask_clip), mask_by_use=by_use)


def settle_masks(tab: Tab) -> Tab:
    """The tab with the paths that its foreground and its movement masks mean. Raises MotionError for one that may not
    be read."""

    def settled(text: str) -> str:
        return str(find(text)) if text.strip() else text

    modules = tuple(item._replace(mask=settled(item.mask)) for item in tab.modules)
    return replace(tab, foreground=settled(tab.foreground), effect_mask=settled(tab.effect_mask), modules=modules)


def open_regions(p: Any, tab: Tab) -> Regions | None:
    """The masks of the parts that AND joins in the prompts; None without them.

    Raises MotionError for a path that may not be read, what is no clip, a prompt with more or fewer parts, and where
    there is no guidance.
    """
    if not tab.regions.strip():
        return None
    masks = [find(path) if path.strip() else None for path in tab.regions.split(";")]
    if p.cfg_scale <= 1:
        raise MotionError(f"CFG scale is {p.cfg_scale:g}, which is no guidance: give more than 1, or no region masks")
    for prompt, parts in count_parts(p, tab.frames):
        if parts != len(masks):
            raise MotionError(
                f"region masks are {len(masks)} and AND joins {parts} parts in the prompt {prompt!r:.60}: give a mask "
                "for each, or nothing between two ; for everywhere"
            )
    return Regions.read(masks, tab.frames)


def find(text: str) -> Path:
    """The file or folder that a path means, which the WebUI's page may show files of. Raises MotionError."""
    data = Path(host_module("paths").data_path)
    try:
        path = (data / text.strip()).resolve()
        allowed = len(text) <= LONGEST_PATH and any(path.is_relative_to(folder.resolve()) for folder in _folders())
        there = allowed and path.exists()
    except (OSError, RuntimeError, ValueError):
        allowed = there = False
    if not allowed:
        raise MotionError(f"{text:.80} lies where the page may not read: put it below {data}")
    if not there:
        raise MotionError(f"{text:.80} does not exist: give the path of a clip or a folder below {data}")
    return path


def follow(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a request, with the frames and the rate of its source clip where it names none itself."""
    own = {name for name, row in TAB_FIELDS.items() if row.group == "source"}
    asked = {name: given[name] for name in own & given.keys()}
    if not asked.get("source") or not given.get("enabled", True) or {"frames", "fps"} <= given.keys():
        return dict(given)
    tab = Tab(**asked)
    clip = open_source(tab)
    return {**(measured(clip.measure(), tab.extend > 0) if clip else {}), **given}


def measured(found: Measures, extended: bool = False) -> dict[str, Any]:
    """The settings that a clip takes from a source; a still has neither frames nor a rate to take, and one that is
    ``extended`` does not say how many are drawn at a time."""
    assert isinstance(RATE, Number)
    taken: dict[str, Any] = {"frames": found.frames} if found.frames > 1 and not extended else {}
    if found.fps is not None:
        taken["fps"] = round(min(max(found.fps, RATE.low), RATE.high), 3)
    return taken


def key_images(clip: Source | None, tab: Tab, size: Size) -> dict[int, Pixels]:
    """The frames of a source that are key frames, in the clip's size. Raises MotionError for a source that feeds
    nothing, and for one with fewer frames than the clip."""
    if clip is None:
        return {}
    if not (tab.source_keys or tab.source_latents or tab.source_control):
        raise MotionError(IDLE)
    frames = clip.frames(tab.frames, size) if tab.source_keys else iter(())
    return {number: frame for number, frame in enumerate(frames) if number % tab.source_keys == 0}


def hints(clip: Source | None, tab: Tab, drawn: int, size: Size) -> Callable[[], Iterator[Pixels]] | None:
    """What ControlNet is shown, in that size, with as much structure as is kept: a frame for each of those that are
    ``drawn``, the last one behind the clip's."""
    if clip is None or not tab.source_control:
        return None

    def frames() -> Iterator[Pixels]:
        for frame in clip.frames(tab.frames, size):
            shown = blur_structure(frame, tab.structure_blur)
            yield shown
        yield from [shown] * (drawn - tab.frames)

    return frames


def write_captions(text: str) -> list[str]:
    """Let the host's interrogator write captions for the clips in a folder that have none; their names. Raises
    MotionError for a path that may not be read, and a folder without clips."""
    folder = find(text)

    def words(frame: Pixels) -> str:
        said: str = host_module("shared").interrogator.interrogate(Image.fromarray(frame))
        if FAILED in said:
            raise MotionError("the WebUI's interrogator could not describe a clip: its log says why")
        return said

    with host_module("call_queue").queue_lock:
        return write_missing(folder, words)


def describe(clip: Source | None) -> dict[str, str]:
    """What infotext says of a source besides its settings."""
    return {HASH: short_hash(clip.path)} if clip is not None and clip.path.is_file() else {}


def _folders() -> list[Path]:
    """From where a source may be read: what the page may show files of, what was uploaded, and what was drawn."""
    uploads = os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / "gradio"
    drawn = [Path(folder) for name in OUTPUTS if (folder := option(name, ""))]
    return [*places.allowed_folders(), Path(uploads), Path(places.temporary_folder()), *drawn]
