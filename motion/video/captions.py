"""What clips show, in words: text files beside them, and tables as people and Hugging Face's data sets write them."""

from __future__ import annotations

import codecs
import csv
import io
import json
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath

from motion.errors import MotionError
from motion.video.files import CLIPS, entries, is_clip_file, stills
from motion.video.pictures import Frame
from motion.video.read import open_clip

TABLES = (".csv", ".jsonl")
FILE_COLUMNS, CAPTION_COLUMNS = ("file", "file_name"), ("caption", "text")
"""How a table may call its columns; the second names are those of Hugging Face's `ImageFolder` and `VideoFolder`."""
NAMED = 5
"""Of several things, those that are named in a message."""
_DELIMITERS = ",;\t"
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_log = logging.getLogger(__name__)


def captioned(folder: Path) -> dict[Path, str]:
    """The clips in `folder` in natural order, with their captions: files that move, folders of frames, and pictures as
    clips of one frame.

    `captions_of` says what they show. What is neither clip nor caption is named in a warning. Raises MotionError if
    there is no clip.
    """
    if not folder.is_dir():
        raise MotionError(f"{folder} is no folder: give one with clips or folders of frames")
    there = entries(folder)
    clips = [path for path in there if (bool(stills(path)) if path.is_dir() else is_clip_file(path))]
    others = [path.name for path in there if path not in clips and path.suffix.lower() not in (".txt", *TABLES)]
    if not clips:
        found = f" but {some(others)}" if others else ""
        raise MotionError(
            f"{folder} holds no clips{found}: put folders of pictures or files of {', '.join(CLIPS)} there"
        )
    if others:
        _log.warning("%s: left out, since clips are folders of pictures or %s", some(others), ", ".join(CLIPS))
    return captions_of(clips, folder)


def name_of(clip: Path) -> str:
    """What a clip is called, without a suffix."""
    return clip.name if clip.is_dir() else clip.stem


def write_missing(folder: Path, describe: Callable[[Frame], str]) -> list[str]:
    """Write `NAME.txt` beside each clip in ``folder`` that has no caption, of what its middle frame shows; their names.

    Raises MotionError as `captioned`.
    """
    missing = [clip for clip, caption in captioned(folder).items() if not caption]
    for clip in missing:
        caption = " ".join(describe(_middle(clip)).split())
        clip.with_name(f"{name_of(clip)}.txt").write_text(f"{caption}\n", encoding="utf-8")
    return [name_of(clip) for clip in missing]


def _middle(path: Path) -> Frame:
    """The frame in the middle of a clip, which is walked twice and never held."""
    clip = open_clip(path)
    count = sum(1 for _ in clip.frames())
    return next(clip.frames(count // 2))


def captions_of(clips: Sequence[Path], folder: Path) -> dict[Path, str]:
    """The caption of each clip: in ``<name>.txt`` beside it, else in a table of the folder, else empty.

    A row names a clip by its file's name or path, with or without the suffix; rows that match none are named in a
    warning. Raises MotionError for a table that cannot be read, of which no row matches, or with two captions for one.
    """
    found = dict.fromkeys(clips, "")
    for table in sorted(path for path in folder.iterdir() if path.suffix.lower() in TABLES):
        if not table.name.startswith("."):
            _take(table, clips, found)
    for clip in clips:
        beside = clip.with_name(f"{name_of(clip)}.txt")
        if beside.is_file():
            found[clip] = read_text(beside).strip()
    return found


def read_text(path: Path) -> str:
    """A text file by its byte order mark, else as UTF-8, else as UTF-16, else as Western Windows (cp1252)."""
    data = path.read_bytes()
    marked = next((encoding for mark, encoding in _MARKS.items() if data.startswith(mark)), None)
    if marked is not None:
        return data.decode(marked, errors="replace")
    if b"\0" in data[:2]:
        return data.decode("utf-16-be" if data[0] == 0 else "utf-16-le", errors="replace")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def some(names: Sequence[object]) -> str:
    """The first few of the names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(map(str, names[:NAMED])) + more


def _take(table: Path, clips: Sequence[Path], found: dict[Path, str]) -> None:
    """Put a table's captions where they belong."""
    by_name: dict[str, list[Path]] = {}
    for clip in clips:
        for name in {clip.name, name_of(clip)}:
            by_name.setdefault(name, []).append(clip)
    by_plain_name = {name.casefold(): named for name, named in by_name.items()}
    unmatched: list[str] = []
    taken: dict[Path, str] = {}
    for file, caption in _json_rows(table) if table.suffix.lower() == ".jsonl" else _csv_rows(table):
        name = PurePosixPath(file.replace("\\", "/")).name
        named = by_name.get(name) or by_plain_name.get(name.casefold(), [])
        if not named:
            unmatched.append(file)
        for clip in named:
            if taken.setdefault(clip, caption) != caption:
                raise MotionError(f"{table} has two captions for {clip.name}: leave one of them")
    if unmatched and not taken:
        raise MotionError(f"{table} names no clip beside it ({some(unmatched)}): write the files' names as they are")
    if unmatched:
        _log.warning("%s names what is not beside it: %s", table, some(unmatched))
    found.update(taken)


def _csv_rows(table: Path) -> Iterator[tuple[str, str]]:
    """Files and their captions."""
    text = read_text(table)
    first = text.partition("\n")[0]
    try:
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=first.count))
        rows.fieldnames = [(name or "").strip().casefold() for name in rows.fieldnames or ()]
        file, caption = _columns(rows.fieldnames, table)
        yield from ((row[file] or "", (row[caption] or "").strip()) for row in rows)
    except csv.Error as error:
        raise MotionError(f"{table} is no table ({error}): save it as CSV again") from error


def _json_rows(table: Path) -> Iterator[tuple[str, str]]:
    """Files and their captions."""
    for number, line in enumerate(read_text(table).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise MotionError(f'line {number} of {table} is no JSON object: write {{"file_name": ..., "text": ...}}')
        file, caption = _columns(row, table)
        if not isinstance(row[caption], str | None):
            raise MotionError(f"line {number} of {table} has {row[caption]!r:.60} as {caption}: give one text")
        yield str(row[file]), (row[caption] or "").strip()


def _columns(names: Collection[str], table: Path) -> tuple[str, str]:
    """What a table calls the files and their captions."""
    file = next((name for name in FILE_COLUMNS if name in names), None)
    caption = next((name for name in CAPTION_COLUMNS if name in names), None)
    if file is None or caption is None:
        raise MotionError(f"{table} lacks the columns file and caption: give both")
    return file, caption
