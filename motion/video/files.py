"""Which files hold clips, and in which order people number them: what the reader opens, the finder lists."""

from __future__ import annotations

import re
from pathlib import Path

STILLS = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff")
"""Files that may be a frame of a folder; of these, PNG and WebP may also be clips of their own."""
MOVIES = (".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts")
CLIPS = (*STILLS, ".gif", ".apng", *MOVIES)
"""All that is opened, in lower case."""
_LEFTOVERS = ("__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "@eadir")


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, in natural order, without hidden files and what Macs, Windows and archives leave."""
    found = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted((path for path in found if path.name.lower() not in _LEFTOVERS), key=_natural)


def stills(folder: Path) -> list[Path]:
    """The pictures in a folder, in the order in which they are played; none if it is no folder of frames."""
    return [path for path in entries(folder) if path.suffix.lower() in STILLS and path.is_file()]


def is_clip_file(path: Path) -> bool:
    """Whether a file is called like a clip or a picture that is read."""
    return path.suffix.lower() in CLIPS


def _natural(path: Path) -> tuple[list[str | int], str]:
    """Sorts 2 before 10; text and numbers take turns, so that places with the same index compare."""
    parts = re.split(r"(\d+)", path.stem.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], path.name
