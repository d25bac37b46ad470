"""The tab's settings in the host's infotext, and back from it into the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from motion.errors import MotionError
from motion.extension.models import library
from motion.fields.table import Field
from motion.settings.tab import TAB_FIELDS, Tab
from motion.weights.library import Entry, short_hash

MODULE = TAB_FIELDS["module"].key
"""The key that says that a picture is a clip."""


def to_infotext(tab: Tab, entry: Entry, is_img2img: bool) -> dict[str, str]:
    """What `p.extra_generation_params` gets: every setting by its key; those for initial images and key frames only
    where there are any, those of guidance only where they are not at default, and none that is empty."""
    unused = {group for group, used in {"img2img": is_img2img, "keys": bool(tab.key_frames)}.items() if not used}
    named = [row for row in TAB_FIELDS.values() if row.key and row.group not in unused]
    rows = [row for row in named if row.group != "guidance" or getattr(tab, row.name) != row.default]
    texts = {row.key: row.write(getattr(tab, row.name)) for row in rows}
    texts = {key: text for key, text in texts.items() if text}
    return {**texts, MODULE: f"{entry.name} [{short_hash(entry.path)}]"}


def reader(row: Field) -> Callable[[Mapping[str, Any]], Any]:
    """What the host calls with a pasted infotext's pairs to fill `row`'s component; None leaves it as it is.

    A still's infotext switches Motion off and leaves the rest; a clip's puts every setting in place, also those that
    it does not name.
    """

    def read(pairs: Mapping[str, Any]) -> Any:
        if row.name == "enabled":
            return MODULE in pairs
        if MODULE not in pairs:
            return None
        if row.key not in pairs:
            return row.format(row.default)
        try:
            value = row.parse(str(pairs[row.key]))
            return library().find(value).name if row.key == MODULE else row.format(value)
        except MotionError:
            return None

    return read


PASTED = {row.name: reader(row) for row in TAB_FIELDS.values() if row.key or row.name == "enabled"}
"""The readers of all settings that infotext holds, the same objects in both tabs: by them the host pairs the
components of one tab with those of the other when it sends a picture over."""
