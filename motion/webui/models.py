"""The motion modules that the host's user has."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch

import motion
from motion.hosts.base import host_module
from motion.library import Entry, Library
from motion.network.model import MotionModel

FOLDER = "motion"
"""The folder in the host's models folder."""
FOLDERS_SETTING = "motion_folders"
_PREDECESSORS = ("AnimateDiff", "../extensions/sd-webui-animatediff/model")


def folders() -> list[Path]:
    """Where modules are looked for: `models/motion`, what the user added, and where older extensions kept theirs."""
    models, shared = Path(host_module("paths").models_path), host_module("shared")
    added = [*(getattr(shared.cmd_opts, "motion_dir", None) or [])]
    added += [line.strip() for line in shared.opts.data.get(FOLDERS_SETTING, "").splitlines() if line.strip()]
    return [models / FOLDER, *map(Path, added), *(models / name for name in _PREDECESSORS)]


def library() -> Library:
    """The files in these folders, as they are now."""
    return Library(folders())


def load(entry: Entry) -> MotionModel:
    """The module of this file, ready to run; the last one stays in memory, as the host's own checkpoint does."""
    status = entry.path.stat()
    return _loaded(entry.path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1)
def _loaded(path: Path, size: int, modified: int) -> MotionModel:
    # In the dtype that the UNet computes in, so that no job casts it again; some hosts store UNets in less.
    dtype = host_module("devices").dtype_unet
    return motion.load(path).to(dtype if dtype.itemsize > 1 else torch.float16)
