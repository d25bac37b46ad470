"""What is said of paths that lead to no weights file."""

from __future__ import annotations

from pathlib import Path

import pytest

from motion.errors import MotionError
from motion.weights.paths import SUFFIXES, check_file


def refusal(path: Path) -> str:
    with pytest.raises(MotionError) as caught:
        check_file(path, "motion module")
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


def test_only_a_file_passes(tmp_path: Path) -> None:
    assert all(suffix in refusal(tmp_path / "none.ckpt") for suffix in SUFFIXES)
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "config.json").touch()
    assert refusal(folder).endswith("is a folder: give the motion module file in it")
    (folder / "model.safetensors").touch()
    assert refusal(folder).endswith(str(folder / "model.safetensors"))
    check_file(folder / "model.safetensors", "motion module")
    assert "does not exist" in refusal(tmp_path / "none" / "x.ckpt")
    assert "cannot be read" in refusal(tmp_path / ("x" * 5000))
