"""Which LoRAs a clip asks for: `<lora:name:weight>` in its prompt, and files given beside it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from motion.errors import MotionError

SUFFIXES = (".safetensors", ".ckpt", ".pt")
_TAG = re.compile(r"<lora:([^:<>]+)(?::([^:<>]*))?>")


class Lora(NamedTuple):
    """A LoRA file and its strength."""

    path: Path
    weight: float = 1.0


def plain(prompt: str) -> str:
    """`prompt` without its LoRA tags."""
    return _TAG.sub("", prompt)


def names(prompt: str) -> list[str]:
    """The LoRAs that `prompt` names, in order."""
    return [name for name, _ in _TAG.findall(prompt)]


def gather(prompt: str, given: Sequence[Lora] = (), folder: Path | None = None) -> list[Lora]:
    """All LoRAs of a job: the `given` ones and those that `prompt` names, at the weight it names.

    A name is a file's without suffix, among the given ones or in `folder`. Raises MotionError if there is no such file.
    """
    loras = {lora.path.stem: lora for lora in given}
    for name, weight in _TAG.findall(prompt):
        path = loras[name].path if name in loras else _file(name, folder)
        loras[name] = Lora(path, _weight(weight or "1"))
    return list(loras.values())


def parse(text: str, mark: str = "=") -> Lora:
    """`FILE` or `FILE=weight`, or with another `mark`. Raises MotionError if there is no such file."""
    name, weight = split_weight(text, mark)
    if not name.is_file():
        raise MotionError(f"LoRA {name} does not exist: give a LoRA file, or FILE{mark}weight")
    return Lora(name, _weight(weight))


def split_weight(text: str, mark: str = "=") -> tuple[Path, str]:
    """The path and the weight in `PATH` or `PATH=weight`; what exists under its whole name has weight "1"."""
    path, found, weight = text.rpartition(mark)
    return (Path(text), "1") if Path(text).exists() or not found else (Path(path), weight)


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not -10 <= weight <= 10:
        raise MotionError(f"LoRA weight is {text}: give a number from -10 to 10")
    return weight


def _file(name: str, folder: Path | None) -> Path:
    if folder is None:
        raise MotionError(f"the prompt names the LoRA {name}: say where it lies with --lora-dir DIR or --lora FILE")
    files = [folder / f"{name}{suffix}" for suffix in SUFFIXES]
    found = next((file for file in files if file.is_file()), None)
    if found is None or found.resolve().parent != folder.resolve():
        raise MotionError(f"the prompt names the LoRA {name}: there is no such file in {folder}")
    return found
