"""The WebUIs that this machine has, and what differs between them for whoever starts one."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

CHECKOUT, INTERPRETER, CONTROLNET = "SD_WEBUI_DIR", "SD_WEBUI_PYTHON", "SD_WEBUI_CONTROLNET"
"""Environment variables; the first two may name several, as PATH does."""
EXTENSIONS = "SD_WEBUI_EXTENSIONS"
"""The environment variable with the checkouts of other extensions that stand beside this one in every host."""
ONLY = "SD_WEBUI_KIND"
"""The environment variable that chooses one kind of them by its name."""


class HostMissing(Exception):
    """Why there is no host to test with, in one sentence."""


@dataclass(frozen=True)
class Kind:
    """A host in general."""

    name: str
    flags: tuple[str, ...]
    allowed: bool = False
    """Must its page be told which folders it may show files from? Else it is allowed the one it works in."""
    any_width: bool = False
    """Does it load checkpoints narrower than SD1.5, as the bundled ones are?"""
    hires: Mapping[str, object] = field(default_factory=dict)
    """What its API wants in each request with hires fix."""


NO_DOWNLOAD = "--no-download-sd-model"
CPU = ("--always-cpu", NO_DOWNLOAD)
HIRES = {"hr_additional_modules": ["Use same choices"]}
A1111 = Kind("A1111", ("--use-cpu", "all", "--no-half", NO_DOWNLOAD), any_width=True)
FORGE = Kind("Forge", CPU, allowed=True, hires=HIRES)
REFORGE = Kind("reForge", CPU)
CLASSIC = Kind("Classic", CPU)
ERSATZ = Kind("ersatz", ("--always-cpu",), allowed=True, hires=HIRES)
NEO = Kind("Neo", ("--always-cpu", "--attention-pytorch"), allowed=True, hires=HIRES)
MARKS: tuple[tuple[Kind, str, bool], ...] = (
    (A1111, "modules_forge", False),
    (ERSATZ, "extensions-builtin/ersatz_LBW", True),
    (FORGE, "packages_3rdparty", True),
    (NEO, "backend", True),
    (REFORGE, "ldm_patched/helpers", True),
    (CLASSIC, "ldm_patched", True),
)
"""A host, and a folder that it alone of those that follow has or lacks."""


@dataclass(frozen=True)
class Host:
    """Where a WebUI and its interpreter are."""

    root: Path
    python: Path

    @property
    def kind(self) -> Kind:
        """Known by what is there."""
        return next(kind for kind, folder, there in MARKS if (self.root / folder).is_dir() is there)

    @property
    def flags(self) -> list[str]:
        """Options of its command line."""
        return [*self.kind.flags, *(["--gradio-allowed-path", str(self.root)] if self.kind.allowed else [])]

    @classmethod
    def all(cls) -> list[Host]:
        """The hosts that the environment names. Raises HostMissing."""
        folders = os.environ.get(CHECKOUT)
        if not folders:
            raise HostMissing(f"set {CHECKOUT} to the checkout of a WebUI, or several, to test on a real host")
        roots = folders.split(os.pathsep)
        pythons = os.environ.get(INTERPRETER, "").split(os.pathsep)
        hosts = [cls._in(root, python) for root, python in zip(roots, pythons + [""] * len(roots), strict=False)]
        only = os.environ.get(ONLY)
        chosen = [host for host in hosts if only in (None, host.kind.name)]
        if not chosen:
            raise HostMissing(f"{ONLY} is {only}: {CHECKOUT} has {', '.join(host.kind.name for host in hosts)}")
        return chosen

    @classmethod
    def _in(cls, folder: str, interpreter: str) -> Host:
        root = Path(folder).expanduser().absolute()
        if not (root / "launch.py").is_file():
            raise HostMissing(f"{CHECKOUT} names {folder}, which holds no launch.py: name the checkout of a WebUI")
        own = root / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        python = interpreter or str(own if own.is_file() else sys.executable)
        if shutil.which(python) is None:
            raise HostMissing(f"{INTERPRETER} names {python}, which is no program: name the interpreter of the WebUI")
        return cls(root, Path(python))
