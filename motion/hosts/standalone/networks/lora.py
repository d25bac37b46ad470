"""Which LoRAs a clip asks for: `<lora:name:weight>` in its prompt, and files given beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from motion.errors import MotionError
from motion.fields.curve import Value
from motion.fields.curve_text import read_curve
from motion.fields.varying import read_value
from motion.settings.lora_tags import check_weight, lora_tags
from motion.weights.paths import SUFFIXES, check_file


class Lora(NamedTuple):
    """A LoRA file and its strength: that of the UNet, and that of the text encoders, by itself the same.

    The UNet's may be a curve over frames; text encoders then go by what the tags in each of the prompt's texts say.
    """

    path: Path
    weight: Value = 1.0
    text_weight: float | None = None

    @property
    def varies(self) -> bool:
        """Whether its strength is a curve."""
        return isinstance(self.weight, str)

    def __str__(self) -> str:
        if isinstance(self.weight, str):
            return f"{self.path.stem}: by frame"
        text = "" if self.text_weight in (None, self.weight) else f"{self.text_weight:g}:"
        return f"{self.path.stem}: {text}{self.weight:g}"


class VaryingFile(NamedTuple):
    """A file and how strongly it counts, which may be a curve."""

    path: Path
    weight: Value = 1.0

    @classmethod
    def parse(cls, text: str, frames: int, what: str, low: float, high: float) -> VaryingFile:
        """Of `FILE`, `FILE:weight` or `FILE:curve`, for a clip of ``frames``. Raises MotionError if there is no such
        file, and for weights out of range; ``what`` it is, it says."""
        ends = [at for at, letter in enumerate(text) if letter == ":"]
        end = next((at for at in (len(text), *ends) if Path(text[:at]).exists()), (ends or [len(text)])[0])
        path, weight = Path(text[:end]), read_value(text[end + 1 :] or "1", f"{what} weight", low, high)
        check_file(path, what, ", or FILE:weight")
        read_curve(weight).placed(frames)
        return cls(path, weight)


def gather(
    prompt: str, given: Sequence[Lora] = (), folder: Path | None = None, frames: int = 1, closed: bool = False
) -> list[Lora]:
    """All LoRAs of a clip of ``frames``: the `given` ones and those that `prompt` names, at the weights it names, which
    differ from frame to frame where its lines do.

    A name is a file's without suffix, among the given ones or in `folder`. Raises MotionError if there is no such file.
    """
    loras, tags = {lora.path.stem: lora for lora in given}, lora_tags(prompt)
    by_frame = _by_frame(prompt, frames, closed) if tags else {}
    for tag in tags:
        path = loras[tag.name].path if tag.name in loras else _file(tag.name, folder)
        weight = by_frame.get(tag.name, tag.unet)
        text = None if isinstance(weight, str) or isinstance(tag.text, str) else tag.text
        loras[tag.name] = Lora(path, weight, text)
    return list(loras.values())


def _by_frame(prompt: str, frames: int, closed: bool) -> dict[str, Value]:
    from motion.settings.prompts import frame_loras  # it imports torch

    return frame_loras(prompt, frames, closed)


def parse(text: str) -> Lora:
    """`FILE` or `FILE=weight`. Raises MotionError if there is no such file."""
    name, weight = split_weight(text)
    check_file(name, "LoRA", ", or FILE=weight")
    return Lora(name, check_weight(weight))


def split_weight(text: str) -> tuple[Path, str]:
    """The path and the weight in `PATH` or `PATH=weight`; what exists under its whole name has weight "1"."""
    path, found, weight = text.rpartition("=")
    return (Path(text), "1") if Path(text).exists() or not found else (Path(path), weight)


def _file(name: str, folder: Path | None) -> Path:
    if folder is None:
        raise MotionError(
            f"the prompt names the LoRA {name}: say where it lies with --lora-dir DIR or --lora FILE, "
            "or give a motion LoRA with --motion-lora FILE:WEIGHT instead"
        )
    files = [folder / f"{name}{suffix}" for suffix in SUFFIXES]
    found = next((file for file in files if file.is_file()), None)
    if found is None or found.resolve().parent != folder.resolve():
        raise MotionError(
            f"the prompt names the LoRA {name}: there is no such file in {folder} ({', '.join(SUFFIXES)})"
        )
    return found
