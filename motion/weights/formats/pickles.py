"""PyTorch's own containers, opened through its restricted unpickler alone: zip archives and bare pickles."""

from __future__ import annotations

import io
import re
import threading
import zipfile
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from motion.errors import MotionError

BESIDE = (
    *("numpy.dtype", "numpy.ndarray", "_codecs.encode", "__builtin__.set"),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    "pytorch_lightning.callbacks.model_checkpoint",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "torch.nn.modules.container.ParameterDict",
)
"""What trainers save beside their tensors, and AUTOMATIC1111's WebUI lets through (`modules/safe.py`)."""

MOST_UNPACKED = 100
"""How many times its own size a compressed archive may unpack to; weights hardly compress."""

_taken_from_torch = threading.Lock()


class Placeholder(dict[Any, Any]):
    """Stands where an object of `BESIDE` was saved: of what it was made of, only a module's parameters are kept."""

    def __new__(cls, *_: Any) -> Placeholder:
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict) and isinstance(state.get("_parameters"), dict):  # a ParameterDict
            self.update(state["_parameters"])

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)


def unpickle(path: Path) -> Any:
    """What the bare pickle at `path` holds; no code in it is run.

    Raises MotionError, as the end of a sentence, for what asks for more than tensors, and whatever torch does for a
    damaged file.
    """
    return _load(path, str(path), mmap=False)


def unpickle_zip(path: Path) -> Any:
    """What the zip archive at `path` holds, also where it was unpacked and packed again; see `unpickle`.

    Its tensors are mapped to the file if it is as `torch.save` left it.
    """
    packed = _repacked(path)
    # Before 2.6 torch.load hands TorchScript archives to torch.jit.load and tar archives to another unpickler, whatever
    # weights_only says (CVE-2025-32434). This is the parser torch.load itself asks, so the two cannot disagree.
    records = set(torch._C.PyTorchFileReader(packed or str(path)).get_all_records())
    if "constants.pkl" in records:
        raise MotionError("is a TorchScript program, which may run code; get the plain weights.")
    if packed is None:
        return _load(path, str(path), mmap=True)
    packed.seek(0)
    return _load(path, packed, mmap=False)


def _repacked(path: Path) -> io.BytesIO | None:
    """The archive as torch lays it out, in memory; None if it is so already."""
    with zipfile.ZipFile(path) as archive:
        entries = {PurePosixPath(entry.filename): entry for entry in archive.infolist() if not entry.is_dir()}
        pickles = sorted((name for name in entries if name.name == "data.pkl"), key=lambda name: len(name.parts))
        if not pickles:
            raise MotionError(
                "is a zip archive without weights at its top; unpack it and give the weights file inside."
            )
        root = pickles[0].parent
        inside = {name: entry for name, entry in entries.items() if root in name.parents}
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in inside.values())
        if stored and len(root.parts) == 1 and len(inside) == len(entries):
            return None
        size = sum(entry.file_size for entry in inside.values())
        if size > MOST_UNPACKED * path.stat().st_size:
            raise MotionError(f"would unpack to {size >> 20} MiB, far more than its own size; get the original file.")
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as packed:
            for name, entry in inside.items():
                packed.writestr(f"archive/{name.relative_to(root)}", archive.read(entry))
    buffer.seek(0)
    return buffer


def _load(path: Path, source: str | io.BytesIO, mmap: bool) -> Any:
    if path.suffix.lower() in (".safetensors", ".sft"):  # recent versions of torch.load go by that name, too
        raise MotionError(
            "is a pickle that calls itself safetensors; if you trust where it is from, rename it to .ckpt."
        )
    try:
        return torch.load(source, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:
        found = _asked_for(error)
        if found not in BESIDE or not hasattr(torch.serialization, "safe_globals"):  # torch 2.5
            raise _refusal(error) from error
    if isinstance(source, io.BytesIO):
        source.seek(0)
    try:
        with _taken_from_torch, _placeholders():
            return torch.load(source, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:
        raise _refusal(error) from error


def _placeholders() -> AbstractContextManager[None]:
    """Within, the restricted unpickler makes a `Placeholder` wherever something of `BESIDE` is asked for."""
    kinds: list[Any] = []
    for path in BESIDE:
        module, _, name = path.rpartition(".")
        kinds.append(type(name, (Placeholder,), {"__module__": module, "__qualname__": name}))
    return torch.serialization.safe_globals(kinds)


def _asked_for(error: Exception) -> str | None:
    """The class or function that the restricted unpickler would not hand out."""
    # torch 2.1 says "Unsupported class os.system", later ones "... GLOBAL os.system ...".
    found = re.search(r"(?:GLOBAL|[Uu]nsupported class) ([\w.]+)", str(error))
    return None if found is None else found[1]


def _refusal(error: Exception) -> Exception:
    found = _asked_for(error)
    if found is None:
        return error
    return MotionError(
        f"asks for {found} when opened, which is no tensor and might run code, so it was left closed; "
        "get its safetensors version."
    )
