"""The bundled models in a host's folders."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from motion.errors import MotionError
from motion.extension import demo_models
from motion.settings.parameters import parse_infotext
from motion.weights.bundled import WEIGHTS


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The models folder of a host."""
    modules = {
        "paths": SimpleNamespace(models_path=str(tmp_path)),
        "sd_models": SimpleNamespace(list_models=lambda: None),
    }
    monkeypatch.setattr(demo_models, "host_module", modules.__getitem__)
    monkeypatch.setattr(demo_models, "folders", lambda: [tmp_path / "motion"])
    return tmp_path


def test_they_are_put_where_the_host_looks(models: Path) -> None:
    for _ in range(2):
        assert demo_models.place() == "sprites.safetensors"
    checkpoint = models / "Stable-diffusion" / "sprites.safetensors"
    assert checkpoint.read_bytes() == (WEIGHTS / "sprites.safetensors").read_bytes()
    config = checkpoint.with_suffix(".yaml").read_text(encoding="utf-8")
    assert f'version: "{demo_models.TOKENIZER.as_posix()}"' in config and "oc.env" not in config
    assert demo_models.TOKENIZER.is_dir()
    files = {"sprites-motion.safetensors", demo_models.ENCODER.name}
    assert {file.name for file in (models / "motion").iterdir()} == files


def test_what_suits_them_is_read_back() -> None:
    clip, more = parse_infotext(demo_models.parameters())
    assert (clip.size, clip.steps, more["Motion module"]) == ((64, 64), 25, "sprites-motion")


def test_a_folder_that_cannot_be_written_is_one_sentence(models: Path) -> None:
    (models / "Stable-diffusion").write_text("a file")
    with pytest.raises(MotionError, match="cannot be written"):
        demo_models.place()
