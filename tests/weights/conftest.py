from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from motion.models.motion.architecture import Architecture
from motion.models.motion.model import MotionModel

State = dict[str, Tensor]


@pytest.fixture
def module() -> Callable[..., State]:
    """A narrow motion module in the authors' names, every learned number random."""

    def make(levels: int = 4, positions: int | None = 32, mid: bool = False) -> State:
        architecture = Architecture.of_unet("v3", (32,) * levels, layers=1, positions=positions, mid=mid)
        generator = torch.Generator().manual_seed(0)
        state = MotionModel(architecture).state_dict()
        return {
            key: tensor if key.endswith(".pe") else torch.randn(tensor.shape, generator=generator)
            for key, tensor in state.items()
        }

    return make


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory for all examples of a property: hypothesis runs them inside a single test."""
    return tmp_path_factory.mktemp("scratch")
