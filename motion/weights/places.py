"""Where weights files lie: those below some folders, which of them are the same, and what sets their names apart."""

from __future__ import annotations

import stat
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import sha256
from os import stat_result
from pathlib import Path
from typing import NamedTuple

from motion.weights.paths import SUFFIXES

SAMPLES, SAMPLE_BYTES = 16, 1024
"""How much of a file is read to tell whether another one is a copy of it; its header is at one of its ends."""


class File(NamedTuple):
    """A file and the folder that it was found in or below."""

    folder: Path
    path: Path

    @property
    def relative(self) -> Path:
        """Its path from there."""
        return self.path.relative_to(self.folder)

    def spellings(self) -> tuple[str, ...]:
        """Names from the shortest to the one that no other file has."""
        relative = self.relative.as_posix()
        short, whole = self.relative.with_suffix("").as_posix(), self.path.as_posix()
        return tuple(map(plain, (short, relative, f"{self.folder.name}/{relative}", whole)))


def weights_below(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    """The weights files in `folder` and below, each directory once: its number on the disk goes into `seen`."""
    waiting = deque([folder])
    while waiting:
        directory = waiting.popleft()
        status = _status(directory)
        if status is None or (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for path in _listed(directory):
            found = None if path.name.startswith(".") else _status(path)
            if found is not None and stat.S_ISDIR(found.st_mode):
                # Links last, so that what has a place of its own is named after that.
                add = waiting.append if path.is_symlink() else waiting.appendleft
                add(path)
            elif found is not None and stat.S_ISREG(found.st_mode) and path.suffix.lower() in SUFFIXES:
                yield path


def _listed(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []


def _status(path: Path) -> stat_result | None:
    try:
        return path.stat()
    except (OSError, ValueError):  # the latter for a NUL in a folder's name
        return None


def first_places(files: Sequence[File]) -> list[File]:
    """For each file the first that is the same: a link to it, or a copy under the same name."""
    firsts: dict[object, File] = {}
    copies: dict[tuple[str, int], list[File]] = {}
    found = []
    for file in files:
        status = _status(file.path)
        number = (status.st_dev, status.st_ino) if status else file.path
        if number not in firsts:
            alike = copies.setdefault((file.path.name, status.st_size if status else 0), [])
            firsts[number] = next((one for one in alike if _same_bytes(one.path, file.path)), file)
            alike += [file] * (firsts[number] is file)
        found.append(firsts[number])
    return found


def _same_bytes(first: Path, second: Path) -> bool:
    """Whether two files of one size hold the same, as far as samples of their bytes tell; not if one is unreadable."""
    try:
        return _sample(*version(first)) == _sample(*version(second))
    except OSError:
        return False


def names_apart(files: Sequence[File]) -> list[str]:
    """For each file its shortest spelling that is no other's name; all files that share one take a longer one."""
    spellings = [file.spellings() for file in files]
    lengths = [0] * len(files)
    while True:
        names = [spelling[length] for spelling, length in zip(spellings, lengths, strict=True)]
        uses = Counter(names)
        shared = [i for i, name in enumerate(names) if uses[name] > 1 and lengths[i] + 1 < len(spellings[i])]
        if not shared:
            return names
        for i in shared:
            lengths[i] += 1


def plain(name: str) -> str:
    """`name` with what is no Unicode in it spelled out, so that pages and infotext can carry it."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def version(path: Path) -> tuple[Path, int, int]:
    """What changes whenever the file does. Raises OSError."""
    status = path.stat()
    return path, status.st_size, status.st_mtime_ns


@lru_cache(maxsize=4096)
def _sample(path: Path, size: int, modified: int) -> bytes:
    digest = sha256()
    with path.open("rb") as file:
        for number in range(SAMPLES):
            file.seek(number * max(size - SAMPLE_BYTES, 0) // (SAMPLES - 1))
            digest.update(file.read(SAMPLE_BYTES))
    return digest.digest()
