"""install.py, run as a host runs it beside stand-ins for what it must or must not touch; no package is installed."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

INSTALL = Path(__file__).parents[1] / "install.py"
TRAP = "raise SystemExit('{name} was imported')"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A folder that stands before all others on the host's module path, with traps for what may not be imported."""
    for name in ("torch", "numpy", "pip"):
        (tmp_path / f"{name}.py").write_text(TRAP.format(name=name))
    return tmp_path


def start(host: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run install.py as a WebUI does. With `-S` the packages of the test environment, PyAV too, are out of sight."""
    return subprocess.run(
        [sys.executable, *options, str(INSTALL)],
        env={**os.environ, "PYTHONPATH": str(host)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_silent_when_nothing_is_missing(host: Path) -> None:
    (host / "av.py").write_text(TRAP.format(name="av"))
    (host / "launch.py").write_text(TRAP.format(name="launch"))
    done = start(host)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_adds_pyav_alone_through_the_host(host: Path) -> None:
    (host / "launch.py").write_text("def run_pip(command, desc):\n    print(command)\n")
    done = start(host, "-S")
    assert (done.returncode, done.stdout, done.stderr) == (0, 'install "av>=12"\n', "")


@pytest.mark.parametrize("launch", [None, "", "import no_such_module"])
def test_adds_pyav_alone_without_a_host(host: Path, launch: str | None) -> None:
    (host / "pip.py").write_text("import sys; print(sys.argv[1:])")
    if launch is not None:
        (host / "launch.py").write_text(launch)
    done = start(host, "-S")
    assert (done.returncode, done.stdout, done.stderr) == (0, "['install', '--prefer-binary', 'av>=12']\n", "")


@pytest.mark.parametrize("launch", [None, "def run_pip(command, desc): raise RuntimeError('no network')"])
def test_a_failure_is_one_line_with_the_remedy(host: Path, launch: str | None) -> None:
    (host / "pip.py").write_text("raise SystemExit(1)")
    if launch is not None:
        (host / "launch.py").write_text(launch)
    done = start(host, "-S")
    assert done.returncode == 1
    assert re.fullmatch(r'install\.py: PyAV is missing.*`pip install "av>=12"`.*\n', done.stderr)


class Shell:
    """Stands in for subprocess.call: notes every command and fails those whose text matches `fails`."""

    def __init__(self, venv: Path) -> None:
        self.venv = venv
        self.commands: list[str] = []
        self.fails: dict[str, int] = {}

    def __call__(self, command: tuple[str, ...], cwd: Path) -> int:
        line = " ".join([Path(command[0]).stem, *command[1:]]).replace(str(cwd), ".").replace("\\", "/")
        self.commands.append(line)
        if " -m venv " in line:
            self.venv.mkdir(exist_ok=True)
        return next((code for text, code in self.fails.items() if text in line), 0)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """install.py as a module whose repository is a temporary folder."""
    spec = importlib.util.spec_from_file_location("install", INSTALL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shutil.copytree(INSTALL.parent / "requirements", tmp_path / "requirements")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "_cpu_index", tuple)
    return module


@pytest.fixture
def shell(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Shell:
    shell = Shell(install.VENV)
    monkeypatch.setattr(install.subprocess, "call", shell)
    return shell


def installed(shell: Shell) -> list[str]:
    return [match[1] for line in shell.commands if (match := re.search(r"-r \./requirements/(\S+)", line))]


def test_the_demo_sets_up_once_and_renders(
    install: ModuleType, shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    assert install.main(["demo"]) == 0
    assert " -m venv ./.venv" in shell.commands[0]
    assert installed(shell) == ["torch.txt", "run.txt"]
    render = "python -m motion render --demo --prompt a red circle moving right --out ./out/demo.gif"
    assert shell.commands[-1] == render
    assert capsys.readouterr().out.endswith(f"is in {install.ROOT / 'out' / 'demo.gif'}\n")
    shell.commands.clear()
    assert install.main(["demo"]) == 0
    assert shell.commands == [render]


def test_a_changed_pin_is_installed_again(install: ModuleType, shell: Shell) -> None:
    install.main(["demo"])
    (install.ROOT / "requirements" / "run.txt").write_text("einops==0.8.1\n")
    shell.commands.clear()
    install.main(["demo"])
    assert installed(shell) == ["run.txt"]


@pytest.mark.parametrize(
    ("step", "message"),
    [("-m venv", "python3-venv"), ("torch.txt", "requirements/torch.txt"), ("render", "could not be rendered")],
)
def test_a_failing_step_ends_with_one_line_and_is_tried_again(
    install: ModuleType, shell: Shell, capsys: pytest.CaptureFixture[str], step: str, message: str
) -> None:
    shell.fails = {step: 7}
    assert install.main(["demo"]) == 1
    assert step in shell.commands[-1]
    line = capsys.readouterr().err
    assert message in line and line.count("\n") == 1
    shell.fails = {}
    shell.commands.clear()
    assert install.main(["demo"]) == 0
    assert step in shell.commands[0]


def test_every_check_runs_and_the_first_failure_counts(install: ModuleType, shell: Shell) -> None:
    shell.fails = {"ruff format": 3, "mypy": 4}
    assert install.main(["test", "-k", "gif"]) == 3
    assert installed(shell) == ["torch.txt", "run.txt", "test.txt", "ldm.txt"]
    assert [line for line in shell.commands if "--no-deps" in line] == [shell.commands[-5]]
    assert shell.commands[-4:] == [
        "python -m ruff check .",
        "python -m ruff format --check .",
        "python -m mypy",
        "python -m pytest -n logical --dist worksteal -k gif",
    ]
    shell.fails = {}
    assert install.main(["test"]) == 0


@pytest.mark.parametrize("arguments", [["demo", "x"], ["tests"], ["--help"]])
def test_unknown_commands_are_refused(
    install: ModuleType, shell: Shell, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert install.main(arguments) == 1
    assert "use none, `demo` or `test`" in capsys.readouterr().err
    assert shell.commands == []


def test_every_requirement_is_pinned_and_torch_stands_alone() -> None:
    lines = {
        file.name: [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
        for file in (INSTALL.parent / "requirements").glob("*.txt")
    }
    assert all(re.match(r"[\w-]+==[\d.]+(; python_version|$)", line) for listed in lines.values() for line in listed)
    assert [name for name, listed in lines.items() if any(line.startswith("torch") for line in listed)] == ["torch.txt"]
    assert lines["torch.txt"] == ["torch==2.13.0"]
