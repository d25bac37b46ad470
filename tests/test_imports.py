"""The core knows no host, and the doors to heavy packages open late."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOSTS = {"modules", "modules_forge", "backend", "ldm", "ldm_patched", "sgm", "k_diffusion", "gradio", "scripts"}
LIBRARIES = {"diffusers", "transformers", "accelerate", "peft"}
MAY_IMPORT = {
    **dict.fromkeys(HOSTS, ("motion/hosts", "motion/webui")),
    **dict.fromkeys(LIBRARIES, ("motion/hosts/standalone", "motion/training", "motion/demo")),
}
FILES = sorted(path for room in ("motion", "sparsectrl") for path in (ROOT / room).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Top-level packages that the file imports anywhere, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_only_the_hosts_rooms_import_hosts(path: Path) -> None:
    room = path.relative_to(ROOT).as_posix()
    strangers = {name for name in imported(path) & MAY_IMPORT.keys() if not room.startswith(MAY_IMPORT[name])}
    assert not strangers


def test_the_packages_import_cheaply() -> None:
    code = "import motion, sparsectrl, sys; print('torch' in sys.modules, 'numpy' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]


def test_public_names() -> None:
    import motion
    import sparsectrl

    assert all(callable(getattr(motion, name)) for name in ("load", "attach", "MotionModel", "MotionError"))
    assert all(callable(getattr(sparsectrl, name)) for name in ("load", "condition", "attach", "SparseEncoder"))
    for package in (motion, sparsectrl):
        with pytest.raises(AttributeError, match="no attribute 'unknown'"):
            _ = package.unknown
