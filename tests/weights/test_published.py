"""A file is known by what it was published as, whatever it is called."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from motion.weights import published
from motion.weights.download import KnownModel
from motion.weights.published import published_names


def test_a_renamed_file_is_known_by_its_metadata_or_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "fast.safetensors"
    save_file({"x": torch.zeros(2)}, file, {"ss_output_name": "lcm-lora-sdv1-5", "other": "text"})
    assert list(published_names(file)) == ["fast", "lcm-lora-sdv1-5"]
    plain = tmp_path / "mine.ckpt"
    plain.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    rows = [
        KnownModel("", "", f"folder/{name}.ckpt", "v2", "sd15", size, sha256, "")
        for name, size, sha256 in (("same", 7, digest), ("unknown", 7, None), ("larger", 8, digest), ("o", 7, "0" * 64))
    ]
    monkeypatch.setattr(published, "known", lambda: tuple(rows))
    assert list(published_names(plain)) == ["mine", "same"]


def test_hashes_are_the_last_to_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "short_hash", None)
    assert next(published_names(tmp_path / "lcm_lora.safetensors")) == "lcm_lora"


@pytest.mark.parametrize("name", ["", "there is none.safetensors", "damaged.safetensors"])
def test_what_cannot_be_read_has_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "damaged.safetensors").write_bytes(b"no weights")
    assert list(published_names(tmp_path / name)) == [(tmp_path / name).stem]
