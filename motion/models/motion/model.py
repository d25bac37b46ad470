"""All temporal layers of one file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from motion.models.motion.architecture import Architecture
from motion.models.motion.temporal import TemporalTransformer


class MotionModel(nn.Module):
    """The layers of ``architecture``, in a tree that gives them the names of the published files.

    A new model is the identity (its last projections are zero). `motion.attach` puts it into a UNet.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        for slot in architecture.slots:
            layer = TemporalTransformer(slot, architecture.family.motion_norm_over_frames)
            node: nn.Module = self
            for name in slot.name.split("."):
                if name not in node._modules:
                    node.add_module(name, nn.Module())
                node = node.get_submodule(name)
            node.add_module("temporal_transformer", layer)

    @classmethod
    def from_state(cls, architecture: Architecture, state: Mapping[str, Tensor]) -> MotionModel:
        """The model that holds ``state`` (canonical names) itself, without a copy; frozen, in evaluation mode.

        Raises RuntimeError from ``load_state_dict`` where names or shapes differ.
        """
        with torch.device("meta"):
            model = cls(architecture)
        model.load_state_dict(state, strict=True, assign=True)
        return model.requires_grad_(False).eval()

    @property
    def slots(self) -> dict[str, TemporalTransformer]:
        """The layers by the names of their slots."""
        return {
            slot.name: cast(TemporalTransformer, self.get_submodule(f"{slot.name}.temporal_transformer"))
            for slot in self.architecture.slots
        }
