"""What a weights file was published as, whatever it is called now."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from motion.errors import MotionError
from motion.weights.download import known
from motion.weights.library import HASH_DIGITS, short_hash

TITLES = ("modelspec.title", "ss_output_name", "name")
"""Where the metadata of a file says what it is: the Stable Diffusion model specification's, kohya's, others'."""


def published_names(path: Path) -> Iterator[str]:
    """Its own name without the suffix, then those in its metadata, then that of the known model with its hash.

    Each is looked up when it is asked for: only a file of a known one's size is read for its hash.
    """
    yield path.stem
    metadata = _metadata(path)
    yield from (metadata[title] for title in TITLES if title in metadata)
    try:
        size = path.stat().st_size
        yield from (Path(model.file).stem for model in known() if model.size == size and _is(path, model.sha256))
    except (MotionError, OSError):
        pass  # what it is loaded for says why it cannot be read


def _is(path: Path, sha256: str | None) -> bool:
    return sha256 is not None and short_hash(path) == sha256[:HASH_DIGITS]


def _metadata(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError):
        return {}
