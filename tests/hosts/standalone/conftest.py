"""The parts of the tiny checkpoints, and a module that fits them in place of the oracle's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from motion.hosts.standalone.checkpoint import open_parts
from motion.hosts.standalone.parts import Parts
from sparsectrl.encoder import Shape, SparseEncoder
from tests.support.tiny import sd15_originals, sdxl_originals, v3

__all__ = ["parts", "sd15_originals", "sdxl_originals", "v3"]  # fixtures


@pytest.fixture(scope="module")
def parts(tiny: Path) -> dict[str, Parts]:
    return {base: open_parts(tiny / f"{base}.safetensors") for base in ("sd15", "sdxl")}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SparseCtrl encoder of key frames as they are, all of whose layers act."""
    torch.manual_seed(4)
    network = SparseEncoder(Shape((32, 64, 64, 64), 32, positions=8))
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    path = tmp_path_factory.mktemp("encoder") / "rgb.safetensors"
    save_file(network.state_dict(), path)
    return path
