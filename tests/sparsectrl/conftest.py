"""The oracle's encoders and their key frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import save_file
from torch import Tensor

import sparsectrl
from sparsectrl.encoder import SparseEncoder

State = dict[str, Tensor]


@pytest.fixture(scope="session")
def states(oracle_of: Callable[[str], State]) -> dict[str, State]:
    """Both encoders in the authors' names."""
    rgb = oracle_of("sparse_rgb")
    body = {name: tensor for name, tensor in rgb.items() if not name.startswith("controlnet_cond_embedding.")}
    return {"rgb": rgb, "scribble": body | oracle_of("sparse_scribble")}


@pytest.fixture(scope="session")
def encoders(states: dict[str, State], tmp_path_factory: pytest.TempPathFactory) -> dict[str, SparseEncoder]:
    folder: Path = tmp_path_factory.mktemp("encoders")
    for kind, state in states.items():
        save_file(state, folder / f"{kind}.safetensors")
    return {kind: sparsectrl.load(folder / f"{kind}.safetensors") for kind in states}


@pytest.fixture(scope="session")
def conditions(oracle_of: Callable[[str], State]) -> dict[str, Tensor]:
    first, last = oracle_of("sparse_rgb_io")["cond"][0].unbind(1)
    sketches = oracle_of("sparse_scribble_io")["keys"] / 255
    return {
        "rgb": sparsectrl.condition({0: first, -1: last}, frames=16),
        "scribble": sparsectrl.condition({3: sketches[0], 12: sketches[1]}, frames=16),
    }
