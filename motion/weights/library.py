"""The motion modules and LoRAs a user has: files in folders, found by name and described without reading their data.

Cheap to import: torch comes with the first look at a folder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

from motion.errors import MotionError
from motion.weights.places import File, first_places, names_apart, plain, version, weights_below

UNREADABLE = "unreadable"
"""The kind of a file that cannot be opened, beside those of `motion.weights.kinds`."""
HASH_DIGITS = 10
NEAR_NAMES = 5
BASES = {"sd15": "SD1.5", "sd2": "SD2", "sdxl": "SDXL"}

_HASHED = re.compile(rf"(.+) \[([0-9a-f]{{{HASH_DIGITS}}})\]", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Entry:
    """One file: what lists and infotext call it, and where it lies."""

    name: str
    path: Path


@dataclass(frozen=True)
class Description:
    """What a file is; None where it does not apply or cannot be told.

    `base` is the image model it was made for ("sd15", "sdxl"), `frames` the longest clip, `widths` its channels from
    the outside in, `problem` a sentence, in which the file is "it", that says why it will not load.
    """

    kind: str
    family: str | None = None
    base: str | None = None
    frames: int | None = None
    widths: tuple[int, ...] = ()
    problem: str | None = None


class Library:
    """The weights files in some folders and all below them, as they are at each call.

    Of the `kinds` are those that a sentence calls `what` and names as examples; without any all are.
    """

    def __init__(self, folders: Sequence[Path], what: str = "motion modules", kinds: Sequence[str] = ()) -> None:
        self.folders = tuple(map(_absolute, folders))
        self.what = what
        self.kinds = kinds

    def entries(self) -> list[Entry]:
        """Every weights file, sorted by name regardless of case.

        Links are followed, and a file in several places is one. Missing folders, unreadable ones and whatever begins
        with a dot are left out.
        """
        return list(dict.fromkeys(entry for entry, _ in self._scan()))

    def find(self, name: str) -> Entry:
        """The file that `name` means: an entry's name, with or without suffix, folders and ``[sha256 prefix]``.

        An absolute path counts if it leads to one of the entries. Raises MotionError, which says what there is, where
        nothing or more than one file is meant, and where the file has another hash.
        """
        files = self._scan()
        found = _matching(files, name) or _matching(files, name.strip())
        hashed = _HASHED.fullmatch(name.strip())
        if hashed and not found:
            named = _matching(files, hashed[1])
            found = [entry for entry in named if short_hash(entry.path) == hashed[2].lower()]
            if named and not found:
                has = ", ".join(f"{entry.name} [{short_hash(entry.path)}]" for entry in named)
                raise MotionError(f"{_short(name)} is another file than {has}: give the name alone to use that one")
        if len(found) > 1:
            names = ", ".join(entry.name for entry in found)
            raise MotionError(f"{_short(name)} can be any of {names}: give one of these names")
        if not found:
            alike = [entry for entry in self.entries() if not self.kinds or self.describe(entry).kind in self.kinds]
            raise MotionError(self._missing(name, [entry.name for entry in alike]))
        return found[0]

    @staticmethod
    def describe(entry: Entry) -> Description:
        """What the file is, told by its keys and shapes; a file that is broken or gone is described by its problem."""
        try:
            return _described(*version(entry.path))
        except Exception as error:  # one odd file must not take the whole list with it
            told = str(error) if isinstance(error, MotionError) else f"it cannot be read ({error!s:.200})"
            return Description(UNREADABLE, problem=told.replace(str(entry.path), "it", 1))

    @staticmethod
    def misfit(description: Description, base: str | None) -> str | None:
        """Why the file is of no use with a checkpoint of this `base`, in a few words; None if it fits.

        With `base` None, for no checkpoint or one of unknown kind, only what the file itself is counts.
        """
        from motion.weights.kinds import REFUSALS

        if description.kind in REFUSALS:
            return REFUSALS[description.kind][0]
        if description.problem is not None:
            reason = description.problem.partition(";")[0]
            return reason if "damaged" in reason else f"damaged: {reason}"
        if base is None or description.base in (base, None):
            return None
        return f"made for {BASES.get(str(description.base), description.base)}"

    def _scan(self) -> list[tuple[Entry, File]]:
        """Each place of a file, with the entry that stands for all places of it."""
        seen: set[tuple[int, int]] = set()
        files = [File(folder, path) for folder in self.folders for path in weights_below(folder, seen)]
        firsts = first_places(files)
        distinct = list(dict.fromkeys(firsts))
        entries = {file: Entry(name, file.path) for name, file in zip(names_apart(distinct), distinct, strict=True)}
        pairs = [(entries[first], file) for first, file in zip(firsts, files, strict=True)]
        return sorted(pairs, key=lambda pair: (pair[0].name.casefold(), pair[0].name))

    def _missing(self, name: str, names: list[str]) -> str:
        where = f"put the file into {self.folders[0]}" if self.folders else f"name a folder with {self.what}"
        if not names:
            found = f"{_short(name)} was not found, for there" if name.strip() else "there"
            return f"{found} are no {self.what} yet: {where}"
        folded = {known.casefold(): known for known in names}
        close = get_close_matches(name[:200].casefold(), folded, NEAR_NAMES, cutoff=0.4)
        near = ", ".join([folded[known] for known in close] or names[:NEAR_NAMES])
        if not name.strip():
            return f"none of the {self.what} is chosen: choose one such as {near}, or {where}"
        return f"{_short(name)} is none of the {self.what}: give one such as {near}, or {where}"


def short_hash(path: Path) -> str:
    """The first 10 hexadecimal digits of the file's SHA-256, remembered while its size and time stay the same.

    Raises MotionError for a file that cannot be read.
    """
    try:
        return _digest(*version(path))[:HASH_DIGITS]
    except OSError as error:
        raise MotionError(f"{path} cannot be read ({error.strerror}); check its name and its permissions.") from error


def _matching(files: Sequence[tuple[Entry, File]], text: str) -> list[Entry]:
    """The entries that `text` means by the strictest reading that any answers to."""
    exact = list(dict.fromkeys(entry for entry, _ in files if entry.name == text))
    slashed = text.replace("\\", "/")
    spelled = exact or [entry for entry, file in files if slashed in file.spellings()[1:]]
    given = None if spelled else _resolved(text)
    there = spelled or [entry for entry, file in files if given is not None and _resolved(file.path) == given]
    named = there or [entry for entry, file in files if text in (plain(file.path.name), plain(file.path.stem))]
    return list(dict.fromkeys(named))


def _absolute(folder: Path) -> Path:
    try:
        return folder.expanduser().absolute()
    except RuntimeError:  # ~name of nobody
        return folder.absolute()


def _resolved(given: str | Path) -> Path | None:
    """Where an absolute path leads to; None for any other text."""
    path = Path(given)
    try:
        return path.resolve() if path.is_absolute() else None
    except (OSError, RuntimeError, ValueError):
        return None


def _short(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:77] + "...")


@lru_cache(maxsize=4096)
def _described(path: Path, size: int, modified: int) -> Description:
    from motion.weights.describe import outline
    from motion.weights.files import open_weights

    told = outline(open_weights(path))
    return Description(told.kind, told.family, told.base, told.frames, tuple(told.channels or ()), told.problem)


@lru_cache(maxsize=4096)
def _digest(path: Path, size: int, modified: int) -> str:
    from motion.weights.describe import sha256

    return sha256(path)
