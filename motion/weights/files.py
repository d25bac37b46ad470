"""From a file on disk to named tensors: the container is told by its content, and no code in it is ever run.

Two containers are opened: safetensors, and PyTorch's own through its restricted unpickler. Tensors are mapped from the
file where the container allows it, so names, shapes and dtypes cost no reading of the data, but for scaled fp8.
"""

from __future__ import annotations

import stat
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from motion.errors import MotionError
from motion.weights.formats.names import without_wrapper
from motion.weights.formats.pickles import unpickle, unpickle_zip
from motion.weights.formats.scaled import unscaled
from motion.weights.paths import SUFFIXES

# What published files wrap their tensors in; at most _DEPTH of them around each other.
WRAPPERS = ("state_dict", "controlnet", "module", "model")
COMPILED = "_orig_mod."
"""What `torch.compile` puts before the names of what it has compiled."""
_DEPTH = 4

# First bytes of what is often saved under a weights file's name, and what to do then.
IMPOSTORS = {
    b"version https://git-lfs": "is a Git LFS pointer and not the weights; run `git lfs pull` or download it.",
    b"<": "is a web page and not the weights; download it again from the file's direct link.",
    b"{": "is a JSON text and not the weights; give the weights file beside it.",
    b"GGUF": "is a GGUF file, which is not read here; download the safetensors version.",
    b"\x1f\x8b": "is a gzip archive; unpack it and give the weights file inside.",
    b"Rar!": "is a RAR archive; unpack it and give the weights file inside.",
    b"7z\xbc\xaf": "is a 7z archive; unpack it and give the weights file inside.",
}


@dataclass(frozen=True)
class WeightsFile:
    """An opened file: its tensors by name (on the CPU), its text metadata, and what it was stored as."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    container: Literal["safetensors", "pickle"]


def open_weights(path: str | PathLike[str]) -> WeightsFile:
    """Open `path`, as what its content is, and peel the wrappers off its tensors.

    Raises MotionError, naming the file and the remedy, for everything that is no intact weights file.
    """
    path = Path(path)
    head = _head(path)
    damaged = f"{path} is damaged, incomplete or no weights file; download it again."
    try:
        # https://huggingface.co/docs/safetensors: the header's length in 8 bytes, then the header, a JSON object.
        if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32:
            return _open_safetensors(path)
        if head.startswith(b"PK\x03\x04"):
            return WeightsFile(_peel(unpickle_zip(path)), {}, "pickle")
        if head.startswith(b"\x80") and not tarfile.is_tarfile(path):
            return WeightsFile(_peel(unpickle(path)), {}, "pickle")
    except MotionError as error:
        raise MotionError(f"{path} {error}") from error
    except Exception as error:  # the parsers of two libraries, over a dozen versions, on any bytes at all
        raise MotionError(damaged) from error
    remedy = next((remedy for start, remedy in IMPOSTORS.items() if head.lstrip().startswith(start)), None)
    raise MotionError(f"{path} {remedy}" if remedy else damaged)


def _head(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        head = _first_bytes(path) if stat.S_ISREG(mode) else b""
    except FileNotFoundError as error:
        raise MotionError(f"{path} does not exist; check the spelling and the directory.") from error
    except OSError as error:
        raise MotionError(f"{path} cannot be read ({error.strerror}); check its name and its permissions.") from error
    except ValueError as error:  # a NUL in the name
        raise MotionError(f"{str(path)!r} is no path; check the spelling.") from error
    if stat.S_ISDIR(mode):
        raise MotionError(f"{path} is a directory; give the weights file inside it.")
    if not stat.S_ISREG(mode) or path.suffix.lower() not in SUFFIXES:
        raise MotionError(f"{path} is not a weights file; give one that ends in {', '.join(SUFFIXES)}.")
    if not head:
        raise MotionError(f"{path} is empty; download it again.")
    return head


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def _open_safetensors(path: Path) -> WeightsFile:
    with safe_open(str(path), framework="pt", device="cpu") as file:
        names = file.keys()
        tensors = {name: file.get_tensor(name) for name in names}
        return WeightsFile(_peel(tensors), dict(file.metadata() or {}), "safetensors")


def _peel(tree: Any) -> dict[str, Tensor]:
    """The tensors of `tree`, without wrappers, their prefixes, scales and what a training run saved beside them."""
    for _ in range(_DEPTH):
        inner = (tree[name] for name in WRAPPERS if isinstance(tree, Mapping) and isinstance(tree.get(name), Mapping))
        tree = next(inner, tree)
    if not isinstance(tree, Mapping):
        raise MotionError("holds no table of tensors; get the plain weights.")
    tensors: dict[str, Tensor] = {}
    for name, tensor in _leaves(tree):
        plain = name.replace(COMPILED, "").removeprefix("module.")
        if plain in tensors:
            raise MotionError(f"names {plain!r} twice; get the original file.")
        if tensor.layout is not torch.strided or tensor.is_meta or tensor.is_quantized or _overlaps(tensor):
            raise MotionError(f"has no plain data for {plain!r}; get the original file.")
        tensors[plain] = tensor.detach()
    if not tensors:
        raise MotionError("holds no tensors; download it again.")
    return without_wrapper(unscaled(tensors))


def _leaves(tree: Mapping[Any, Any]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of `tree`, and of the tables in it under dotted names; configurations and counters are skipped."""
    for name, leaf in tree.items():
        if name == "animatediff_config":
            continue
        inner = leaf.items() if isinstance(leaf, Mapping) else ()
        yield from ((f"{name}.{key}", tensor) for key, tensor in inner if isinstance(tensor, Tensor))
        if isinstance(leaf, Tensor):
            yield str(name), leaf


def _overlaps(tensor: Tensor) -> bool:
    # A pickle may spread one number over any shape; built into a model it would take memory the file never had.
    return tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()


def save_whole(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write safetensors, whole or not at all, with the rights of any new file; safetensors itself lets none but the
    owner read it. Raises MotionError where it cannot be written."""
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)
        partial.touch()
        rights = partial.stat().st_mode
        packed = {name: tensor.contiguous() for name, tensor in tensors.items()}
        safetensors.torch.save_file(packed, partial, dict(metadata or {}))
        partial.chmod(rights)
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        raise MotionError(f"{path} cannot be saved ({error}): free some room and run it again") from error
    finally:
        partial.unlink(missing_ok=True)
