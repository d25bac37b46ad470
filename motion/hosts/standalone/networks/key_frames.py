"""Key frames of a clip from the command line: which images stand where."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from motion.errors import MotionError
from motion.fields.curve import Value
from motion.fields.curve_text import read_curve
from motion.hosts.controls import Control, Pixels
from motion.hosts.standalone.networks.lora import split_weight
from motion.settings.key_frames import read_strength
from motion.video.read import read
from motion.weights.paths import check_file
from sparsectrl import key_frames as placing

Option = tuple[Literal["sparsectrl", "keyframe"], str]


def gather(options: Sequence[Option], frames: int, unseen: bool = False) -> list[Control]:
    """The controls of a clip of ``frames``, from the options in the order they were given.

    ``sparsectrl`` names an encoder's file, ``keyframe`` images for the encoder before it (the first: also for that
    behind): ``WHERE=IMAGE``, or ``WHERE=IMAGE=strength``. The images are a picture, or a folder or clip of as many as
    ``WHERE`` names (`sparsectrl.key_frames.parse`). With ``unseen`` no encoder is shown them, and none is needed.
    Raises MotionError naming what is missing or does not fit.
    """
    files = [text for name, text in options if name == "sparsectrl"]
    if unseen:
        images = [text for name, text in options if name == "keyframe"]
        return [_control(None, images, frames)] if images else []
    shown: list[list[str]] = [[] for _ in files]
    encoder = 0
    for name, text in options:
        if name == "sparsectrl":
            encoder += 1
        elif not files:
            raise MotionError(
                f"the key frame {text} has no encoder: give a SparseCtrl file with --sparsectrl FILE, or hold it as it "
                "is with --hold-keys clean --key-scale 0"
            )
        else:
            shown[max(encoder - 1, 0)].append(text)
    return [_control(Path(file), texts, frames) for file, texts in zip(files, shown, strict=True)]


def gather_encoders(options: Sequence[Option]) -> list[Control]:
    """The encoders among the options, without key images: they are shown frames of a clip that goes on.

    Raises MotionError for a key image, and for a file that is not there.
    """
    for name, text in options:
        if name == "keyframe":
            raise MotionError(f"key frame is {text}, and a clip that goes on is given its own frames: leave it out")
        check_file(Path(text), "SparseCtrl encoder")
    return [Control(Path(text), {}) for _, text in options]


def _control(file: Path | None, texts: list[str], frames: int) -> Control:
    if file is not None:
        check_file(file, "SparseCtrl encoder")
    if not texts:
        raise MotionError(f"the SparseCtrl encoder {file} has no key image: give one with --keyframe FRAME=IMAGE")
    places: list[int] = []
    images: list[Pixels] = []
    strengths: list[Value] = []
    for text in texts:
        where, equals, rest = text.partition("=")
        if not equals:
            raise MotionError(f"key frame is {text}: give FRAME=IMAGE, such as 0=first.png")
        path, weight = split_weight(rest)
        pictures = read(path).frames
        places += placing.parse(where, frames, len(pictures))
        images += list(pictures)
        strengths += [_strength(weight, frames)] * len(pictures)
    placing.places(places, frames)
    by_frame = dict(sorted(zip(places, images, strict=True)))
    return Control(
        file, by_frame, {place: weight for place, weight in zip(places, strengths, strict=True) if weight != 1}
    )


def _strength(text: str, frames: int) -> Value:
    strength = read_strength(text)
    read_curve(strength).placed(frames)
    return strength


def digest(controls: Sequence[Control]) -> str:
    """A text that is another one for other images, frames or strengths; empty without controls."""
    pairs = ((control, *pair) for control in controls for pair in control.images.items())
    shown = [(frame, control.strength.get(frame), image.shape, image.tobytes()) for control, frame, image in pairs]
    return hashlib.sha256(repr(shown).encode()).hexdigest() if controls else ""
