"""Captions by BLIP: which clips get one, of which frame, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration

from motion.cli import main as cli
from motion.video.write import write

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "green", "circle", "square"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BLIP of random weights."""
    folder = tmp_path_factory.mktemp("blip")
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    tokens = {"vocab_size": len(WORDS), "bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0}
    text = {**small, **tokens, "encoder_hidden_size": 16, "projection_dim": 16}
    torch.manual_seed(0)
    vision = {**small, "image_size": 32, "patch_size": 16}
    config = BlipConfig(text_config=text, vision_config=vision, projection_dim=16)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def test_clips_without_a_caption_get_one(model: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Of their middle frame; what has been written by hand stays."""
    for name in ("one", "two"):
        write((np.full((24, 32, 3), 100 * number, np.uint8) for number in range(3)), tmp_path / f"{name}.webp", 5, "")
    (tmp_path / "two.txt").write_text("mine")
    seen: list[torch.Tensor] = []
    generate = BlipForConditionalGeneration.generate

    def noted(self: Any, pixel_values: torch.Tensor, **more: Any) -> Any:
        seen.append(pixel_values)
        return generate(self, pixel_values=pixel_values, **more)

    monkeypatch.setattr(BlipForConditionalGeneration, "generate", noted)
    assert cli.main(["train", "caption", "--data", str(tmp_path), "--model", str(model), "--device", "cpu"]) == 0
    (shown,) = seen
    assert shown.shape == (1, 3, 32, 32) and shown[0, 0].mean() == pytest.approx(
        (100 / 255 - 0.4815) / 0.2686, abs=1e-3
    )
    assert (tmp_path / "two.txt").read_text() == "mine"
    assert set((tmp_path / "one.txt").read_text().split()) <= set(WORDS)


def test_what_is_no_model_is_refused(model: Path, tmp_path: Path, capsys: Any) -> None:
    write((np.zeros((24, 32, 3), np.uint8) for _ in range(2)), tmp_path / "one.webp", 5, "")
    for folder in (tmp_path, tmp_path / "none"):
        assert cli.main(["train", "caption", "--data", str(tmp_path), "--model", str(folder), "--device", "cpu"]) == 2
    assert "is no folder of a model" in capsys.readouterr().err
