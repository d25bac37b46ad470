"""Where a clip may be written, and in which formats, rates and sizes: asked before anything is drawn."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

from motion.errors import MotionError
from motion.video import encoders
from motion.video.encoders import Encoder
from motion.video.pictures import check_size

ENCODERS: dict[str, Encoder] = {
    ".gif": encoders.encode_gif,
    ".webp": encoders.encode_webp,
    ".png": encoders.encode_png,
    ".apng": encoders.encode_png,
    ".mp4": encoders.encode_mp4,
    ".webm": encoders.encode_webm,
}
MIN_FPS, DEFAULT_MAX_FPS = Fraction(1, 10), 240
MAX_FPS: dict[Encoder, float] = {encoders.encode_gif: 50}  # browsers slow faster frames down to 10
DEFAULT_LONGEST_SIDE = 65535
LONGEST_SIDE: dict[Encoder, int] = {encoders.encode_webp: 16383, encoders.encode_mp4: 16384}
_LONGEST_NAME = 255  # bytes, of nearly every file system
_NOT_IN_NAMES = frozenset('<>:"|?*' if os.name == "nt" else "")

PathLike = str | os.PathLike[str]


def check_destination(path: PathLike) -> Encoder:
    """The encoder for `path`; MotionError where `write` could not put a clip. Cheap, and touches nothing."""
    name, target = os.fspath(path), Path(path)
    if not name or "\0" in name or _NOT_IN_NAMES & set(target.name):
        raise MotionError(f"{name!r} is no file name: give one that ends in {', '.join(ENCODERS)}.")
    if len(os.fsencode(target.name)) > _LONGEST_NAME:
        raise MotionError(f"The name {target.name:.40}... is too long: shorten it to {_LONGEST_NAME} bytes.")
    if not target.parent.is_dir():
        raise MotionError(f"The folder {target.parent} of {name} does not exist: create it or choose another.")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise MotionError(f"The folder {target.parent} cannot be written to: choose another for {target.name}.")
    if target.is_dir():
        if any(target.iterdir()):
            raise MotionError(f"The folder {name} is not empty: name an empty or new one, or a file in it.")
        return encoders.encode_folder
    if name.endswith(("/", os.sep)) or not target.suffix:
        if target.exists():
            raise MotionError(f"{target} is a file, not a folder: give a name that ends in {', '.join(ENCODERS)}.")
        return encoders.encode_folder
    return encoder_for(target.suffix.lower())


def encoder_for(suffix: str, fps: float = 1.0) -> Encoder:
    """The encoder of a format; MotionError for one that is unknown, not installed or does not play ``fps``."""
    encode = ENCODERS.get(suffix)
    if encode is None:
        raise MotionError(f"{suffix!r} is no clip format: use {', '.join(ENCODERS)}, or a folder's name.")
    if encode in (encoders.encode_mp4, encoders.encode_webm):
        encoders.import_av()
    check_rate(encode, fps)
    return encode


def check_rate(encode: Encoder, fps: float) -> None:
    """Raise MotionError for frames per second that players of the format slow down."""
    highest = MAX_FPS.get(encode, DEFAULT_MAX_FPS)
    if fps > highest:
        raise MotionError(f"fps is {fps:g}: {_format(encode)} plays {highest} at most")


def check_frame_size(encode: Encoder, width: int, height: int) -> None:
    """Raise MotionError for frames that the format cannot hold."""
    longest = LONGEST_SIDE.get(encode, DEFAULT_LONGEST_SIDE)
    if max(width, height) > longest:
        raise MotionError(f"a frame is {width}x{height}: {_format(encode)} takes {longest} pixels a side at most")
    check_size(width, height, "a frame")


def check_text(parameters: str) -> None:
    """Raise MotionError for text that no clip can carry."""
    try:
        parameters.encode()
    except UnicodeEncodeError as error:
        raise MotionError(f"The parameters hold broken Unicode ({error}): retype the prompt.") from None
    if "\0" in parameters:
        raise MotionError("The generation parameters hold a NUL character, which no clip can carry: remove it.")


def _format(encode: Encoder) -> str:
    return next((suffix for suffix, encoder in ENCODERS.items() if encoder is encode), "a folder")
