"""Layers that run on a UNet instead of a motion module's own: with other tensors, sharing all else with them."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from motion import patching
from motion.models.motion.model import MotionModel
from motion.models.motion.positions import AS_TRAINED, Positions
from motion.models.motion.temporal import PositionTable, TemporalTransformer

T = TypeVar("T", bound=nn.Module)
STAND_INS = "_motion_layers"
"""The attribute of a UNet that holds the layers that run on it instead of a module's own."""


class LayerChanges(NamedTuple):
    """Other parameters and buffers for some modules of a tree, and forward hooks for some."""

    tensors: Mapping[tuple[nn.Module, str], Tensor]
    hooks: Mapping[nn.Module, Sequence[Callable[..., Any]]]


def with_changes(layer: T, changes: LayerChanges) -> T:
    """A module like ``layer`` with what is changed in it, which shares all else with it; itself if that is nothing."""
    own = {
        kind: {name: changes.tensors.get((layer, name), found) for name, found in vars(layer)[kind].items()}
        for kind in ("_parameters", "_buffers")
    }
    parts = {name: part and with_changes(part, changes) for name, part in layer._modules.items()}
    hooks = changes.hooks.get(layer, ())
    changed = any((layer, name) in changes.tensors for names in own.values() for name in names)
    if parts == layer._modules and not hooks and not changed:
        return layer
    other = copy.copy(layer)
    vars(other).update(own, _modules=parts, _forward_hooks=OrderedDict(layer._forward_hooks))
    for hook in hooks:
        patching.after(other, hook)
    return other


def stand_ins(unet: nn.Module) -> Mapping[TemporalTransformer, TemporalTransformer]:
    """What runs on this UNet, and on no other, in the place of layers of a module: theirs under a motion LoRA."""
    found: Mapping[TemporalTransformer, TemporalTransformer] = vars(unet).get(STAND_INS, {})
    return found


def put_stand_ins(unet: nn.Module, layers: Mapping[TemporalTransformer, TemporalTransformer]) -> patching.Undo:
    """Let ``layers`` run on ``unet`` instead of those that they are named by."""
    return patching.item(vars(unet), STAND_INS, {**stand_ins(unet), **layers})


def put_positions(unet: nn.Module, model: MotionModel, positions: Positions) -> patching.Undo:
    """Let the layers of ``model`` run on ``unet`` with other position tables."""
    if positions == AS_TRAINED:
        return lambda: None
    running = {layer: stand_ins(unet).get(layer, layer) for layer in model.slots.values()}
    return put_stand_ins(unet, {own: with_positions(layer, positions) for own, layer in running.items()})


def with_positions(layer: TemporalTransformer, positions: Positions) -> TemporalTransformer:
    """A layer like ``layer`` whose position tables are changed, which shares all else with it."""
    tables = [module for module in layer.modules() if isinstance(module, PositionTable)]
    with torch.inference_mode(False), torch.no_grad():
        return with_changes(layer, LayerChanges({(table, "pe"): positions.of_table(table.pe) for table in tables}, {}))
