"""The core knows no host, and the doors to heavy packages open late."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOSTS = {"modules", "modules_forge", "backend", "ldm", "ldm_patched", "sgm", "k_diffusion", "gradio", "scripts"}
LIBRARIES = {"diffusers", "transformers", "accelerate", "peft"}
MAY_IMPORT = {
    **dict.fromkeys(HOSTS, ("motion/hosts", "motion/extension")),
    **dict.fromkeys(LIBRARIES, ("motion/hosts/standalone", "motion/training", "motion/demo", "motion/cli")),
}
FACADES = {"motion", "sparsectrl"}
MOST = 20
"""Entries at any level of the packages and of the tests."""
FILES = sorted(path for room in ("motion", "sparsectrl") for path in (ROOT / room).rglob("*.py"))


def table() -> dict[str, set[str]]:
    """The rooms of docs/architecture.md in its order, and which others each may import."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (ground|`[\w/]+`) \|.*\| ([^|]*)\|$", text, re.MULTILINE)
    return {room.strip("`"): set(re.findall(r"`([\w/]+)`", others)) for room, others in rows}


def room_of(module: str) -> str:
    """The room of a dotted name of ours; "" for a façade."""
    package, *rest = module.split(".")
    if module in FACADES or module == "motion.__main__":
        return ""
    if package == "sparsectrl":
        return package
    if rest[0] == "hosts" and (ROOT / "motion" / "hosts" / "/".join(rest[1:2])).is_dir() and len(rest) > 1:
        return f"hosts/{rest[1]}"
    return rest[0] if (ROOT / "motion" / rest[0]).is_dir() else "ground"


def ours(path: Path) -> set[str]:
    """The rooms of what the file imports of ours, anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            package = ROOT / node.module.replace(".", "/")
            found |= {
                f"{node.module}.{alias.name}"
                if (package / f"{alias.name}.py").is_file() or (package / alias.name).is_dir()
                else node.module
                for alias in node.names
            }
    return {room_of(module) for module in found if module.partition(".")[0] in FACADES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_each_room_imports_what_the_table_says(path: Path) -> None:
    room = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    if room:
        assert ours(path) - {"", room, "ground"} <= table()[room]


def test_the_table_has_every_room_and_no_circle() -> None:
    rooms = list(table())
    assert {room_of(".".join(path.relative_to(ROOT).with_suffix("").parts)) for path in FILES} - {""} == set(rooms)
    for place, (room, others) in enumerate(table().items()):
        assert others <= set(rooms[:place]), room


@pytest.mark.parametrize("root", ["motion", "sparsectrl", "tests"])
def test_rooms_are_small(root: str) -> None:
    for folder in (path for path in [ROOT / root, *(ROOT / root).rglob("*")] if path.is_dir()):
        entries = [entry.name for entry in folder.iterdir() if entry.name not in ("__pycache__", "__init__.py")]
        assert len(entries) <= MOST, f"{folder.relative_to(ROOT)}: {len(entries)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


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


def test_hosts_know_no_technique_by_name() -> None:
    """But for functions that are none: they ask the registry, which lists them."""
    known = {"motion.techniques.registry", "motion.techniques.technique", "motion.techniques.ddim_inversion"}
    for path in FILES:
        if path.relative_to(ROOT).as_posix().startswith(("motion/hosts", "motion/extension")):
            tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            named = {node.module for node in tree if isinstance(node, ast.ImportFrom) and node.module}
            assert {name for name in named if name.startswith("motion.techniques")} <= known, path


@pytest.mark.parametrize("name", ["motion", "sparsectrl", "motion.hosts.standalone"])
def test_what_a_package_exports_is_sorted_and_there(name: str) -> None:
    package = import_module(name)
    assert package.__all__ == sorted(package.__all__)
    assert all(getattr(package, public) is not None for public in package.__all__)


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
