"""The motion modules, LoRAs and encoders that the host's user has."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import chain
from pathlib import Path

import torch

import motion
import sparsectrl
from motion.errors import MotionError
from motion.fields.curve import Value
from motion.hosts.effects import effect_of_further
from motion.hosts.webui.backends.base import host_module
from motion.models.motion.model import MotionModel
from motion.sampling.effect import MotionEffect
from motion.sampling.lora import WeightedLora
from motion.settings.lora_tags import LoraTag
from motion.settings.stored import StoredObject
from motion.settings.tab import Tab
from motion.weights.formats.lora import Lora, Target
from motion.weights.formats.pairs import DOMAIN_ADAPTER, LORA, LORA_KINDS, MOTION_LORA
from motion.weights.kinds import SPARSECTRL
from motion.weights.library import Entry, Library
from motion.weights.published import published_names
from sparsectrl import SparseEncoder
from sparsectrl.checkpoint import outline

FOLDER = "motion"
"""The folder in the host's models folder."""
FOLDERS_SETTING = "motion_folders"
FILES = {"module": ("motion module",), "loras": (MOTION_LORA,), "adapter": (DOMAIN_ADAPTER, LORA)}
"""The fields of the tab that name files, and the kinds of files they name. Converted adapters are plain LoRAs."""
_PREDECESSORS = ("AnimateDiff", "../extensions/sd-webui-animatediff/model")


def folders() -> list[Path]:
    """Where modules are looked for: `models/motion`, what the user added, and where older extensions kept theirs."""
    models, shared = Path(host_module("paths").models_path), host_module("shared")
    added = [*(getattr(shared.cmd_opts, "motion_dir", None) or [])]
    added += [line.strip() for line in shared.opts.data.get(FOLDERS_SETTING, "").splitlines() if line.strip()]
    return [models / FOLDER, *map(Path, added), *(models / name for name in _PREDECESSORS)]


def library() -> Library:
    """The files in these folders, as they are now."""
    return Library(folders(), kinds=FILES["module"])


def module_names() -> list[str]:
    """The names of the motion modules in these folders."""
    files = library()
    return [entry.name for entry in files.entries() if files.describe(entry).kind in FILES["module"]]


def lora_files(field: str) -> list[str]:
    """The names of the files that `loras` or `adapter` may name. In the host's own folder of LoRAs adapters as
    published count alone: plain LoRAs there are for pictures."""
    files, own = lora_library(), {entry.path for entry in library().entries()}
    kinds = {entry: files.describe(entry).kind for entry in files.entries()}
    wanted = FILES[field]
    return [entry.name for entry, kind in kinds.items() if kind in wanted and (kind != "LoRA" or entry.path in own)]


def lora_library() -> Library:
    """The same folders, and the one of the host's own LoRAs."""
    return Library([*folders(), *host_folders()], "motion LoRAs and adapters", LORA_KINDS)


def encoder_library() -> Library:
    """The same folders, and those of ControlNet's models, among which SparseCtrl's are often kept."""
    given = getattr(host_module("shared").cmd_opts, "controlnet_dir", None)
    folder = Path(host_module("paths").models_path) / "ControlNet"
    return Library([*folders(), folder, *([Path(given)] if given else [])], "SparseCtrl encoders", (SPARSECTRL,))


def encoders() -> dict[str, str]:
    """The kinds (of `sparsectrl.presets`) of the encoders in these folders, by name; damaged ones are left out."""
    found, kinds = encoder_library(), {}
    for entry in found.entries():
        if found.describe(entry).kind == SPARSECTRL:
            with suppress(MotionError):
                kinds[entry.name] = _kind(*_version(entry.path))
    return kinds


def host_folders() -> list[Path]:
    """Where the host keeps LoRAs; none if it has no LoRAs."""
    folder = getattr(host_module("shared").cmd_opts, "lora_dir", None)
    return [Path(folder)] if folder else []


def loras(tab: Tab) -> list[WeightedLora]:
    """The motion LoRAs and the adapter that the tab names, each with its weight.

    Raises MotionError for a name that is no file's, and a file that is something else.
    """
    wanted: list[tuple[str, Value, Target]] = [(item.name, item.weight, "motion") for item in tab.loras]
    if tab.adapter:
        wanted.append((tab.adapter, tab.adapter_scale, "image"))
    files = lora_library()
    return [(motion.lora.load(files.find(name).path, target), weight) for name, weight, target in wanted if weight]


def further_modules(tab: Tab) -> list[tuple[MotionModel, MotionEffect]]:
    """The motion modules that act beside the tab's own, in order, each with its effect.

    Raises MotionError for a name that is no file's, and a mask that is none.
    """
    files = library()
    entries = [(files.find(item.module), item) for item in tab.modules]
    return [(_loaded_further(*_version(entry.path)), effect_of_further(item, tab.frames)) for entry, item in entries]


def prompt_loras(named: Iterable[tuple[str, Callable[[], LoraTag]]]) -> list[WeightedLora]:
    """Those of the names in a prompt that the host's LoRAs do not answer to: motion LoRAs, and adapters as published.

    The host itself finds no layer for them and leaves the picture as it is; all others are its own affair, broken
    files too. Raises MotionError for a motion LoRA that cannot be read as one, or at the strength that is asked for.
    """
    files, found = Library(host_folders()), list[WeightedLora]()
    for name, tag in named:
        try:
            entry = files.find(name)
        except MotionError:
            continue  # an alias, or a mistake: the host says it
        if files.describe(entry).kind in (MOTION_LORA, DOMAIN_ADAPTER):
            found.append((motion.lora.load(entry.path), tag().unet))
    return found


def prompt_lora(name: str) -> Lora:
    """The LoRA that prompts call by this name or alias, as the host's list has it.

    Raises MotionError for a name that is nobody's, and a file that cannot be attached.
    """
    host_list = getattr(sys.modules.get("networks"), "available_network_aliases", {})
    listed = host_list.get(name)
    path = Library(host_folders(), "LoRAs", LORA_KINDS).find(name).path if listed is None else Path(listed.filename)
    return motion.lora.load_plain(path)


def few_step_files(module: str, loras: Iterable[str], prompt: str) -> tuple[Iterator[str], list[str]]:
    """The names under which the module and the LoRAs of a clip were published, those that its prompt names as well; and
    of the LoRAs alone."""
    named = (*loras, *re.findall(r"<lora:([^:>]+)", prompt))
    of_loras = [name for lora in named for name in _published(lora_library(), lora)]
    return chain(_published(library(), module), of_loras), of_loras


def _published(files: Library, name: str) -> Iterator[str]:
    try:
        path = files.find(name).path
    except MotionError:
        return iter([name])  # an alias of the host's, or a mistake
    return published_names(path)


def host_lora(title: str) -> str | None:
    """What the host calls a LoRA with that in its name; None if it has none."""
    stems = (entry.path.stem for entry in Library(host_folders()).entries())
    return next((stem for stem in stems if title and title.lower() in stem.lower()), None)


def last_module(base: str | None) -> str:
    """The module that moved a checkpoint of this base last; none if that is not known."""
    with suppress(MotionError):
        return str(_last_modules().read().get(str(base), ""))
    return ""


def remember_module(base: str | None, name: str) -> None:
    """Keep in mind that this module was used; where that cannot be written, it is not."""
    with suppress(MotionError):
        known = _last_modules().read()
        if known.get(str(base)) != name:
            _last_modules().write({**known, str(base): name})


def _last_modules() -> StoredObject:
    return StoredObject(Path(host_module("paths").data_path) / "motion-last-modules.json", str)


def load(entry: Entry, family: str) -> MotionModel:
    """The module of this file as one of `family`, ready to run; the last one stays in memory, as the host's own
    checkpoint does."""
    return _loaded(*_version(entry.path), None if family == "auto" else family)


def load_encoder(entry: Entry) -> SparseEncoder:
    """The encoder of this file, ready to run; the last two stay in memory. Raises MotionError for any other file."""
    return _loaded_encoder(*_version(entry.path))


def _version(path: Path) -> tuple[Path, int, int]:
    """What changes whenever the file does."""
    status = path.stat()
    return path, status.st_size, status.st_mtime_ns


@lru_cache(maxsize=1)
def _loaded(path: Path, size: int, modified: int, family: str | None) -> MotionModel:
    return motion.load(path, family).to(_dtype())


@lru_cache(maxsize=2)
def _loaded_further(path: Path, size: int, modified: int) -> MotionModel:
    return motion.load(path).to(_dtype())


@lru_cache(maxsize=2)
def _loaded_encoder(path: Path, size: int, modified: int) -> SparseEncoder:
    return sparsectrl.load(path).to(_dtype())


def _dtype() -> torch.dtype:
    """The one that the UNet computes in, so that no job casts again; some hosts store UNets in less."""
    dtype: torch.dtype = host_module("devices").dtype_unet
    return dtype if dtype.itemsize > 1 else torch.float16


@lru_cache(maxsize=64)
def _kind(path: Path, size: int, modified: int) -> str:
    return outline(path).kind
