"""Paths of weights files as users give them, checked without opening anything."""

from __future__ import annotations

from pathlib import Path

from motion.errors import MotionError

SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin")
OR_FOLDER = ", or a diffusers folder"
"""What an image model may be besides."""


def check_file(path: Path, what: str, remedy: str = "", folders: bool = False) -> None:
    """Raise MotionError, in which the file is called `what`, unless there is a file at `path`, or perhaps a folder.

    `remedy` joins what to give instead.
    """
    try:
        if path.is_file() or (folders and path.is_dir()):
            return
        inside = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES) if path.is_dir() else None
    except OSError as error:  # a name that is too long, a folder of somebody else's
        raise MotionError(f"{what} {path} cannot be read ({error.strerror}): check its name and permissions") from error
    if inside is None:
        raise MotionError(f"{what} {path} does not exist: give a {what} file ({', '.join(SUFFIXES)}){remedy}")
    named = f", {inside[0]}" if len(inside) == 1 else f", such as {inside[0]}" if inside else ""
    raise MotionError(f"{what} {path} is a folder: give the {what} file in it{named}{remedy}")
