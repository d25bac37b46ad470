"""The tab's settings in the host's infotext, and back from it into the page."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import motion
from motion.errors import MotionError
from motion.extension.models import library
from motion.extension.page.notes import note
from motion.extension.planning import key_frame_images
from motion.fields.table import Field, Image
from motion.settings.tab import FORMATS, NO_MODULE, TAB_FIELDS, Tab
from motion.weights.library import Entry, short_hash

MODULE = TAB_FIELDS["module"].key
"""The key that says that a picture is a clip."""
VERSION = "Motion version"
"""The key of the version whose defaults hold for what is not written."""
ALWAYS = ("module", "frames", "fps")
PREDECESSOR = "AnimateDiff"
"""The key of sd-webui-animatediff's parameters."""
TAKEN = f"Pasted: the parameters of {PREDECESSOR}'s old extension, as far as Motion has the same settings."
NEWER = "Pasted: made with Motion {version}, which is newer than this one; settings may be missing."


def to_infotext(tab: Tab, entry: Entry | None, is_img2img: bool, whole: bool = False) -> dict[str, str]:
    """What `p.extra_generation_params` gets: module, frames, FPS, and each setting that is not at its default, by its
    key; if ``whole``, each that does anything in this clip. None is empty."""
    values = {name: getattr(tab, name) for name in TAB_FIELDS}
    changed = {name for name, value in values.items() if value != TAB_FIELDS[name].default}
    written = set(ALWAYS) | (set(TAB_FIELDS) if whole else changed)
    rows = [row for row in TAB_FIELDS.values() if row.key and row.name in written]
    used = [row for row in rows if (not row.needs or changed & {*row.needs}) and (is_img2img or row.group != "img2img")]
    texts = {row.key: text for row in used if (text := row.write(values[row.name]))}
    module = NO_MODULE if entry is None else f"{entry.name} [{short_hash(entry.path)}]"
    return {**texts, MODULE: module, VERSION: motion.__version__}


def reader(row: Field) -> Callable[[Mapping[str, Any]], Any]:
    """What the host calls with a pasted infotext's pairs to fill `row`'s component; None leaves it as it is.

    A still's infotext switches Motion off and leaves the rest; a clip's puts every setting in place, also those that
    it does not name: these were at their defaults.
    """

    def read(pairs: Mapping[str, Any]) -> Any:
        if row.name == "enabled":
            return MODULE in pairs
        if MODULE not in pairs:
            return None
        try:
            value = _read(row, pairs)
        except MotionError:
            return None
        return _update(value) if isinstance(row, Image) else value

    return read


def _read(row: Field, pairs: Mapping[str, Any]) -> Any:
    """What `row`'s component shows of the pairs of a clip. Raises MotionError."""
    if row.key not in pairs:
        return row.format(row.default)
    text = str(pairs[row.key])
    if row.key == MODULE:
        return NO_MODULE if text == NO_MODULE else library().find(text).name
    return str(key_frame_images.path(text)) if isinstance(row, Image) else row.format(row.parse(text))


PASTED = {row.name: reader(row) for row in TAB_FIELDS.values() if row.key or row.name == "enabled"}
"""The readers of all settings that infotext holds, the same objects in both tabs: by them the host pairs the
components of one tab with those of the other when it sends a picture over."""


def read_notes(pairs: Mapping[str, Any]) -> Any:
    """What is to be said of a pasted infotext: a line for each setting that could not be taken over."""
    lines = [TAKEN] if PREDECESSOR in pairs and MODULE in pairs else []
    if _numbers(str(pairs.get(VERSION, ""))) > _numbers(motion.__version__):
        lines.append(NEWER.format(version=pairs[VERSION]))
    for row in TAB_FIELDS.values() if MODULE in pairs else ():
        try:
            if row.key:
                _read(row, pairs)
        except MotionError as error:
            lines.append(f"Pasted: {row.label} stays as it is, for {error}.")
    return _update("".join(map(note, lines)))


def _update(value: Any) -> dict[str, Any]:
    """What gradio's own `update` makes in all versions: hosts take it where a value would be turned into another."""
    return {"__type__": "update", "value": value}


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def translate(_: str, pairs: MutableMapping[str, Any]) -> None:
    """Called by the host with the pairs of a pasted infotext: those of sd-webui-animatediff, which writes
    `AnimateDiff: "enable: True, model: ..., video_length: 16"`, become ours besides."""
    old = dict(re.findall(r"(\w+): (\[[^]]*\]|[^,]*)", str(pairs.get(PREDECESSOR, ""))))
    if old.get("enable", "True") != "True" or "model" not in old or MODULE in pairs:
        return
    pairs[MODULE] = old["model"]
    given = {"frames": old.get("video_length"), "fps": old.get("fps"), "context_length": old.get("batch_size")}
    given["context_stride"] = old.get("stride")
    overlap = old.get("overlap", "-1")
    length = old.get("batch_size", "")
    given["context_overlap"] = str(int(length) // 4) if overlap == "-1" and length.isdecimal() else overlap
    given["loop"] = "none" if old.get("closed_loop", "N") == "N" else "closed"
    given["formats"] = ", ".join(_formats(old.get("format", "")))
    pairs.update({TAB_FIELDS[name].key: text for name, text in given.items() if text and text != "0"})


def _formats(text: str) -> list[str]:
    """Our names of the formats that are listed; what it calls PNG are frames."""
    known = {**{label.upper(): name for name, label in FORMATS.items()}, "PNG": "frames"}
    return [known[word] for word in re.findall(r"\w+", text.upper()) if word in known]
