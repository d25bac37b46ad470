"""Textual inversion files under every published naming."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from motion.errors import MotionError
from motion.weights.formats.embeddings import open_embedding

FIRST, SECOND = torch.randn(3, 768), torch.randn(3, 1280)
FILES: dict[str, tuple[dict[str, Tensor], tuple[Tensor, ...]]] = {
    "A1111": ({"emb_params": FIRST}, (FIRST,)),
    "A1111, half": ({"emb_params": FIRST.half()}, (FIRST.half().float(),)),
    "diffusers": ({"<cat-toy>": FIRST}, (FIRST,)),
    "diffusers, one vector": ({"<cat-toy>": FIRST[0].clone()}, (FIRST[:1],)),
    "SDXL": ({"clip_g": SECOND, "clip_l": FIRST}, (FIRST, SECOND)),
}


@pytest.mark.parametrize("naming", FILES)
def test_every_naming_gives_the_vectors(naming: str, tmp_path: Path) -> None:
    tensors, expected = FILES[naming]
    save_file(tensors, tmp_path / "toy-uc.safetensors")
    found = open_embedding(tmp_path / "toy-uc.safetensors")
    assert found.name == "toy-uc"
    assert all(torch.equal(*pair) for pair in zip(found.vectors, expected, strict=True))


def test_the_pickle_of_a_training_in_the_webui(tmp_path: Path) -> None:
    learned = {"*": FIRST.clone().requires_grad_()}
    torch.save({"string_to_token": {"*": 265}, "string_to_param": learned, "name": "a", "step": 9}, tmp_path / "toy.pt")
    assert torch.equal(open_embedding(tmp_path / "toy.pt").vectors[0], FIRST)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (
            {"a.lora_A.weight": FIRST, "a.lora_B.weight": FIRST.T.contiguous()},
            "a LoRA of the image model, and no textual",
        ),
        ({"emb_params": FIRST, "more": FIRST.clone()}, "several embeddings"),
        ({"emb_params": torch.zeros(76, 8)}, "76 vectors: .* at most 75"),
        ({"emb_params": torch.zeros(0, 8)}, "odd shapes"),
        ({"emb_params": torch.zeros(2, 2, 8)}, "odd shapes"),
        ({"emb_params": torch.zeros(())}, "odd shapes"),
        ({"clip_l": FIRST, "clip_g": SECOND[:2].clone()}, "3 and 2 vectors"),
    ],
)
def test_what_is_none_is_named(tensors: dict[str, Tensor], words: str, tmp_path: Path) -> None:
    save_file(tensors, tmp_path / "toy.safetensors")
    with pytest.raises(MotionError, match=f"toy.safetensors .*{words}"):
        open_embedding(tmp_path / "toy.safetensors")
