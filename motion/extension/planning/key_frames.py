"""Key frames of a job: from the tab's list to encoders and the images they are shown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from PIL import Image

from motion.errors import MotionError
from motion.extension.models import encoder_library, encoders, load_encoder
from motion.extension.places import allowed_folders
from motion.extension.planning import key_frame_images
from motion.hosts.controls import Control, Pixels
from motion.hosts.sounds import only_in, settle_sounds
from motion.hosts.webui.key_frames import Loaded
from motion.models.motion.model import MotionModel
from motion.settings.key_frames import KeyFrame
from motion.settings.tab import TAB_FIELDS, Tab
from motion.weights.library import Entry
from sparsectrl.key_frames import parse, places
from sparsectrl.presets import PICTURES


def settle_pictures(tab: Tab) -> Tab:
    """The tab with every picture kept and named by its digits, and every encoder that is shown one by its file's name.

    Raises MotionError for an encoder that is not there, and for what is no picture.
    """
    keys = [
        key._replace(
            image=key_frame_images.digits_of(key.image),
            encoder=key.encoder if tab.pictures_only else _entry(key.encoder).name,
        )
        for key in tab.key_frames
    ]
    last = tab.last_frame
    if last is not None:
        last = key_frame_images.digits_of(last) if isinstance(last, str) else key_frame_images.keep_image(last)
    return replace(tab, key_frames=tuple(keys), last_frame=last)


def open_last_frame(tab: Tab) -> Tab:
    """A settled tab with its last frame as a picture."""
    if tab.last_frame is None:
        return tab
    return replace(tab, last_frame=Image.fromarray(key_frame_images.pixels_of(tab.last_frame)))


def settle(tab: Tab) -> Tab:
    """A tab with its pictures settled as it is drawn: the last frame as a picture, and sounds as numbers."""
    find = only_in(key_frame_images.allowed_file, allowed_folders()[0])
    return settle_sounds(open_last_frame(tab), TAB_FIELDS, find)


def load(tab: Tab, of_source: Mapping[int, Pixels] = MappingProxyType({})) -> list[Loaded]:
    """The controls of a `settled` tab, with the encoders that are shown them. Frames ``of_source`` are shown to the
    usual one, but where a key frame of the tab's stands.

    Raises MotionError for frames that are out of range or stand twice, and for a file that is no SparseCtrl encoder.
    """
    by_encoder: dict[str | None, list[KeyFrame]] = {}
    for key in tab.key_frames:
        by_encoder.setdefault(None if tab.pictures_only else key.encoder, []).append(key)
    others: dict[str | None, Mapping[int, Pixels]] = {}
    if of_source:
        usual = None if tab.pictures_only else _entry(usual_encoder(encoders())).name
        others[usual] = of_source
        by_encoder.setdefault(usual, [])
    entries = {name: None if name is None else _entry(name) for name in by_encoder}
    return [_loaded(entries[name], keys, tab.frames, others.get(name, {})) for name, keys in by_encoder.items()]


def fits_usual_encoder(module: MotionModel | None, scale: Any) -> bool:
    """Whether there is an encoder of pictures that is to act and fits the checkpoint that ``module`` moves."""
    kinds = encoders()
    usual = usual_encoder(kinds)
    if module is None or module.architecture.family.base != "sd15" or scale == 0 or kinds.get(usual) != PICTURES:
        return False
    widths = load_encoder(_entry(usual)).shape.widths
    return {slot.channels for slot in module.architecture.slots} == set(widths)


def usual_encoder(kinds: Mapping[str, str]) -> str:
    """Of encoders and their kinds the one that pictures are shown where none is named; empty if there is none."""
    return next((name for name, kind in kinds.items() if kind == PICTURES), next(iter(kinds), ""))


def place_key_frames(keys: Sequence[KeyFrame], frames: int) -> list[int]:
    """The frame of each of an encoder's key frames in a clip of ``frames``; those with the same words share them out.

    Raises MotionError as `sparsectrl.key_frames.parse` and `places` do.
    """
    together: dict[tuple[str, int], list[int]] = {}
    for index, key in enumerate(keys):
        one = re.fullmatch(r"\s*[-+]?\d+\s*", key.frame, re.ASCII)
        together.setdefault((key.frame, index if one else -1), []).append(index)
    found = [0] * len(keys)
    for (text, _), indices in together.items():
        for index, place in zip(indices, parse(text, frames, len(indices)), strict=True):
            found[index] = place
    return places(found, frames)


def _loaded(entry: Entry | None, keys: Sequence[KeyFrame], frames: int, others: Mapping[int, Pixels]) -> Loaded:
    by_frame = dict(sorted(zip(place_key_frames(keys, frames), keys, strict=True)))
    own = {frame: key_frame_images.pixels_of(key.image) for frame, key in by_frame.items()}
    images = dict(sorted({**others, **own}.items()))
    strengths = {frame: key.strength for frame, key in by_frame.items() if key.strength != 1}
    if entry is None:
        return Control(None, images), None
    return Control(entry.path, images, strengths), load_encoder(entry)


def _entry(name: str) -> Entry:
    """The file that a key frame's encoder names; without a name the only one there is."""
    library = encoder_library()
    if not name:
        there = list(encoders())
        if len(there) != 1:
            which = f"one of {', '.join(there)}" if there else f"put one into {library.folders[0]}"
            raise MotionError(f"a key frame names no SparseCtrl encoder: {which}")
        name = there[0]
    return library.find(name)
