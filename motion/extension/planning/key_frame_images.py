"""The images of key frames: kept in the host's data folder under their digits, by which infotext names them."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from motion.errors import MotionError
from motion.extension.places import allowed_folders
from motion.fields.table import DIGITS, names_kept_picture
from motion.hosts.controls import Pixels
from motion.hosts.webui.backends.base import host_module, option
from motion.video import pictures
from motion.video.files import STILLS

FOLDER = "motion-key-images"
MOST_BYTES = 64 << 20
"""Of a picture's file."""
LONGEST_PATH = 1024
MOST_KEPT = 2 << 30
"""Bytes of all kept images: beyond them those go that were used longest ago."""
IN_USE = 3600
"""Seconds after its last use in which an image stays, as the page may show it."""
_DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,", re.ASCII)


def folder() -> Path:
    """Where they are kept."""
    return Path(host_module("paths").data_path) / FOLDER


def digits_of(text: str) -> str:
    """The digits of the image that `KeyFrame.image` means, which is kept now.

    A path is followed only into the folders from which the host's own page may show files. Raises MotionError for an
    image that is not kept any more, and for what is no picture.
    """
    if names_kept_picture(text):
        path(text)
        return text
    file = allowed_file(text)
    if file is not None:
        if not file.is_file():
            raise MotionError(f"key image {text} does not exist: give a picture's path")
        _check_bytes(file.stat().st_size)
        with _readable():
            data = file.read_bytes()
        return keep(data)
    try:
        data = base64.b64decode(_DATA_URL.sub("", text, count=1), validate=True)
    except ValueError as error:
        raise MotionError(
            f"key image {text:.80} is no picture: give it in base64, or its path in {allowed_folders()[0]}"
        ) from error
    return keep(data)


def keep(data: bytes) -> str:
    """Keep the picture in a file of these bytes; its digits, those of the SHA-256 of its pixels.

    Raises MotionError for what is too large or no picture.
    """
    pixels = _read(data)
    digits = hashlib.sha256(repr(pixels.size).encode() + pixels.tobytes()).hexdigest()[:DIGITS]
    place = folder() / f"{digits}.png"
    if place.is_file():
        os.utime(place)
        return digits
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_suffix(f".{os.getpid()}.partial")
    try:
        pixels.save(partial, "PNG")
        _make_room()
        partial.replace(place)
    except OSError as error:
        raise MotionError(f"the key image cannot be kept ({error.strerror}): free some room") from error
    finally:
        partial.unlink(missing_ok=True)
    return digits


def _make_room() -> None:
    """Delete the images that were used longest ago until the others fit, and what a killed host has left half written.

    Raises MotionError where those in use do not fit.
    """
    kept = [(file, file.stat()) for file in folder().glob("*.p*")]
    total, lately = sum(status.st_size for _, status in kept), time.time() - IN_USE
    for file, status in sorted(kept, key=lambda pair: pair[1].st_mtime):
        if status.st_mtime < lately and (total > MOST_KEPT or file.suffix == ".partial"):
            file.unlink(missing_ok=True)
            total -= status.st_size
    if total > MOST_KEPT:
        raise MotionError(f"the key images of the last hour take up {MOST_KEPT >> 20} MB: try again in an hour")


def keep_image(image: Any) -> str:
    """Keep a picture that Pillow has opened; its digits."""
    data = io.BytesIO()
    image.save(data, "PNG")
    return keep(data.getvalue())


def path(digits: str) -> Path:
    """The file of a kept image, which is in use now. Raises MotionError if it is not there."""
    place = folder() / f"{digits}.png"
    if not place.is_file():
        raise MotionError(f"key image {digits} is not kept any more: give the picture again")
    os.utime(place)
    return place


def pixels_of(digits: str) -> Pixels:
    """A kept image, ``[height, width, 3]``."""
    with Image.open(path(digits)) as image:
        return np.asarray(image.convert("RGB"))


def _check_bytes(count: int) -> None:
    if count > MOST_BYTES:
        raise MotionError(f"key image has more than {MOST_BYTES >> 20} MB: give a smaller file")


def _read(data: bytes) -> Any:
    """The picture in a file, upright, in RGB, transparency on the host's background."""
    _check_bytes(len(data))
    with _readable():
        picture = pictures.open_picture(io.BytesIO(data), "key image")
    background = option("img2img_background_color", pictures.BACKGROUND)
    with _readable():
        return Image.fromarray(pictures.show(picture, background))


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except MotionError:
        raise
    except Exception as error:  # a parser of broken files raises nearly anything
        raise MotionError(f"key image is no picture that can be read: give one of {', '.join(STILLS)}") from error


def allowed_file(text: str) -> Path | None:
    """The file of an absolute path that leads into one of the folders; None for any other text."""
    if len(text) > LONGEST_PATH or not Path(text).is_absolute():
        return None
    try:
        file = Path(text).resolve()
        return file if any(file.is_relative_to(folder.resolve()) for folder in allowed_folders()) else None
    except (OSError, RuntimeError, ValueError):
        return None
