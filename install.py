"""All the set-up there is.

    python install.py            what a WebUI host runs at each start: adds PyAV if it is missing, else says nothing
    python install.py demo       makes .venv, installs the pinned set, renders a clip with the bundled models
    python install.py test ...   the same environment and the test tools; runs every check; ... is handed to pytest

It needs nothing but Python 3.10 or newer and pip.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYAV = "av>=12"  # pip takes the newest that this Python can have; what is there stays
PROMPT = "a red circle moving right"

# Requirement files in the order of installation, with pip's options. torch is first and alone, so that nothing else
# can choose its version; the ldm package names ancient dependencies that its UNet does not need.
RUN: dict[str, tuple[str, ...]] = {"torch.txt": (), "run.txt": ()}
TEST: dict[str, tuple[str, ...]] = {**RUN, "test.txt": (), "ldm.txt": ("--no-deps",)}

CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("pytest", "-n", "logical", "--dist", "worksteal"),
)


class SetupError(Exception):
    """A step failed; the text is the one line that the user reads last."""


def host() -> int:
    """Add PyAV to the interpreter that runs this, the way the host installs things, and touch nothing else."""
    if importlib.util.find_spec("av") is not None:
        return 0
    try:
        run_pip = importlib.import_module("launch").run_pip  # obeys the host's --skip-install and INDEX_URL
    except (ImportError, AttributeError):
        run_pip = None
    remedy = f'PyAV is missing, so clips cannot be MP4 or WebM: run `pip install "{PYAV}"` in the host\'s environment.'
    if run_pip is None:
        _run((sys.executable, "-m", "pip", "install", "--prefer-binary", PYAV), remedy)
        return 0
    try:
        run_pip(f'install "{PYAV}"', "PyAV for sd-webui-motion")
    except RuntimeError as error:
        raise SetupError(remedy) from error
    return 0


def demo() -> int:
    """Render a clip with the bundled models and say where it is."""
    python = _environment(RUN)
    clip = ROOT / "out" / "demo.gif"
    clip.parent.mkdir(exist_ok=True)
    _run(
        (python, "-m", "motion", "render", "--demo", "--prompt", PROMPT, "--out", str(clip)),
        "The clip could not be rendered: the reason stands above.",
    )
    print(f'"{PROMPT}" is in {clip}')
    return 0


def test(arguments: Sequence[str]) -> int:
    """Run every check, also after one has failed; the exit code of the first that failed."""
    python = _environment(TEST)
    failed = {}
    for tool, *options in CHECKS:
        command = (python, "-m", tool, *options, *(arguments if tool == "pytest" else ()))
        print(f"== {' '.join(command[2:])}", flush=True)
        if code := subprocess.call(command, cwd=ROOT):
            failed[" ".join((tool, *options))] = code
    if failed:
        print(f"failed: {', '.join(failed)}")
    return next(iter(failed.values()), 0)


def _environment(requirements: dict[str, tuple[str, ...]]) -> str:
    """The interpreter of .venv with `requirements` in it. What was done before, for the same pins, is not repeated."""
    _once(
        "venv",
        sys.version,
        (sys.executable, "-m", "venv", str(VENV)),
        "No virtual environment could be made: install Python's venv module (Debian: apt install python3-venv).",
    )
    python = str(VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    pip_install = (python, "-m", "pip", "install", "--disable-pip-version-check", "--prefer-binary")
    for name, options in requirements.items():
        file = ROOT / "requirements" / name
        _once(
            name,
            sys.version + file.read_text(encoding="utf-8"),
            (*pip_install, *options, "-r", str(file)),
            f"The packages of requirements/{name} could not be installed: check the connection and the message above.",
        )
    return python


def _once(step: str, stamp: str, command: tuple[str, ...], remedy: str) -> None:
    """Run `command` unless it has already succeeded under this `stamp`."""
    done = VENV / f"{step}.done"
    if done.is_file() and done.read_text(encoding="utf-8") == stamp:
        return
    if step == "torch.txt":
        command += _cpu_index()
    print(f"== {step}", flush=True)
    _run(command, remedy)
    done.write_text(stamp, encoding="utf-8")


def _cpu_index() -> tuple[str, ...]:
    """Without an NVIDIA driver, let pip find the CPU wheel: PyPI's own for Linux brings gigabytes of CUDA along."""
    import shutil
    import urllib.request

    if sys.platform != "linux" or shutil.which("nvidia-smi"):
        return ()
    try:
        urllib.request.urlopen(f"{CPU_WHEELS}/torch/", timeout=5).close()
    except OSError:  # pip would try an index it cannot reach for minutes
        return ()
    return ("--extra-index-url", CPU_WHEELS)


def _run(command: tuple[str, ...], remedy: str) -> None:
    if subprocess.call(command, cwd=ROOT) != 0:
        raise SetupError(remedy)


def main(arguments: Sequence[str]) -> int:
    command, *rest = arguments or [""]
    try:
        if sys.version_info < (3, 10):  # noqa: UP036 (this file alone is run before anything was checked)
            raise SetupError(f"Python {sys.version.split()[0]} is too old: use 3.10 or newer.")
        if command == "test":
            return test(rest)
        if rest or command not in ("", "demo"):
            raise SetupError(f"{' '.join(arguments)!r} is no command: use none, `demo` or `test`.")
        return demo() if command else host()
    except (SetupError, OSError) as error:
        print(f"install.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
