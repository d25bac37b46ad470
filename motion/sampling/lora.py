"""Motion LoRAs and the domain adapter on an attached UNet: `load` reads one, `attach` is the scope it lasts for.

The temporal layers are this project's own, so while the scope lasts layers stand in for them on this UNet to whose
matrices a motion LoRA is added: nothing is left to compute at a step, and other jobs that use the same module see none
of it. The UNet is the host's, which patches, swaps and quantises its weights for prompt LoRAs
of its own, at class level in AUTOMATIC1111 and in the weights in Forge. A domain adapter therefore leaves weights and
classes alone and adds its product to the layer's output in a forward hook.
"""

from __future__ import annotations

import copy
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from motion import patching
from motion.errors import MotionError
from motion.models import sites
from motion.models.motion.model import MotionModel
from motion.models.motion.temporal import TemporalAttention, TemporalTransformer
from motion.sampling.animation import put_stand_ins, stand_ins
from motion.settings.prompt_keys import travels
from motion.weights.checkpoint import FAMILY_HINT
from motion.weights.formats.lora import Lora, load
from motion.weights.formats.pairs import Pair

_log = logging.getLogger(__name__)
MIDDLE = "mid_block."
"""How the names of the layers in the middle block begin."""

__all__ = ["Lora", "add_trigger_words", "attach", "load", "notes"]

T = TypeVar("T", bound=nn.Module)
WeightedLora = tuple[Lora, float]
"""A LoRA and its weight."""


@contextmanager
def attach(unet: nn.Module, model: MotionModel | None, loras: Iterable[WeightedLora]) -> Iterator[None]:
    """Within the scope ``model`` and ``unet`` compute with ``W + weight * alpha / rank * up @ down``.

    ``loras`` are pairs of a LoRA and its weight. Motion LoRAs change what ``model``, the motion module beside which
    this is used, does on ``unet`` and on no other: the model itself stays as it is. Domain adapters go to the attention
    of ``unet`` (any that `motion.attach` takes). Several add up, in whatever order; one of weight 0 is as if it were
    not there. The product follows device and dtype of what it is added to, and gradients reach the matrices of a LoRA
    that asks for them. On exit the UNet is exactly as it was found.

    Of a motion LoRA for modules with a middle block (v2) the other layers go with modules without one (v1, v3), which
    is logged. Raises MotionError before anything is changed for a LoRA that changes other layers which are not there
    or of another shape, or was trained on another family of motion modules, and for a motion LoRA without a motion
    module.
    """
    active = [(lora, weight) for lora, weight in loras if weight != 0]
    with ExitStack() as undo:
        unet = undo.enter_context(patching.uncompiled(unet))
        running = _running(unet, model)
        temporal = _temporal_changes(
            model, running, [(lora, weight) for lora, weight in active if lora.target == "motion"]
        )
        for note in notes(model, active):
            _log.warning(note)
        spatial = list(_spatial_changes(unet, [(lora, weight) for lora, weight in active if lora.target == "image"]))
        if model is not None and temporal:
            merged = {
                (layer, name): _merged(layer._parameters[name], parts) for (layer, name), parts in temporal.items()
            }
            changed = {own: _with_parameters(running[name], merged) for name, own in model.slots.items()}
            undo.callback(put_stand_ins(unet, changed))
        for layer, pair, weight in spatial:
            # First: what others make of the layer's output may have other rows than its input.
            undo.callback(patching.after(layer, _Product(pair, weight), first=True))
        yield


def notes(model: MotionModel | None, loras: Iterable[WeightedLora]) -> list[str]:
    """A sentence for each of ``loras`` that changes ``model`` without some of its layers."""
    return [
        f"the motion LoRA {lora.name} changes a middle block too, which this {model.architecture.family.name} motion "
        "module lacks: its other layers count"
        for lora, weight in loras
        if model is not None and weight != 0 and _skips_middle(lora, model)
    ]


def add_trigger_words(prompt: str, loras: Iterable[WeightedLora], frames: int) -> str:
    """``prompt``, for a clip of ``frames``, and behind it the trigger words of the LoRAs in use that it has not yet.

    All frames are told them.
    """
    behind = "\n" if travels(prompt, frames) else ", "
    for trigger in (lora.trigger for lora, weight in loras if weight != 0):
        if trigger.casefold() not in prompt.casefold():
            prompt = f"{prompt}{behind}{trigger}" if prompt.strip() else trigger
    return prompt


Change = tuple[slice, Pair, float]
Changes = dict[tuple[nn.Module, str], list[Change]]


def _running(unet: nn.Module, model: MotionModel | None) -> dict[str, TemporalTransformer]:
    """What runs on ``unet`` for each of the model's slots: its own layer, or what another scope has put there."""
    put = stand_ins(unet)
    return {} if model is None else {name: put.get(layer, layer) for name, layer in model.slots.items()}


def _with_parameters(layer: T, parameters: Mapping[tuple[nn.Module, str], Tensor]) -> T:
    """A module like ``layer`` with those of its parameters, which shares all else with it; itself if it has none."""
    own = {name: parameters.get((layer, name), found) for name, found in layer._parameters.items()}
    parts = {name: part and _with_parameters(part, parameters) for name, part in layer._modules.items()}
    if parts == layer._modules and not any((layer, name) in parameters for name in own):
        return layer
    other = copy.copy(layer)
    vars(other).update(_parameters=own, _modules=parts)
    return other


def _temporal_changes(
    model: MotionModel | None, running: Mapping[str, TemporalTransformer], loras: Sequence[WeightedLora]
) -> Changes:
    """What happens to the rows of which matrix of the temporal layers."""
    modules = {
        f"{slot}.temporal_transformer.{name}": module
        for slot, layer in running.items()
        for name, module in layer.named_modules()
    }
    changes: Changes = defaultdict(list)
    for lora, weight in loras:
        if model is None:
            raise MotionError(f"{lora.name} is a motion LoRA: give the motion module it was trained on beside it")
        family = model.architecture.family.name
        if lora.metadata.get(FAMILY_HINT, family) != family and not _skips_middle(lora, model):
            raise MotionError(
                f"the motion LoRA {lora.name} was trained on a {lora.metadata[FAMILY_HINT]} motion module "
                f"and does not fit this {family} one"
            )
        for name, pair in _fitting_pairs(lora, model).items():
            place = _place(modules, name)
            if place is None or not pair.fits(*_rows(*place).shape):
                raise MotionError(
                    f"the motion LoRA {lora.name} does not fit this {family} motion module, which has no such layer "
                    f"as {name}: give the motion module it was trained on"
                )
            module, parameter, rows = place
            changes[module, parameter].append((rows, pair, weight))
    return changes


def _skips_middle(lora: Lora, model: MotionModel) -> bool:
    """Whether ``lora`` has layers in a middle block, which ``model`` lacks, and others beside them.

    The authors' camera moves are made for v2, which has one, and go with v1 and v3 without it.
    """
    middle = {name.startswith(MIDDLE) for name in lora.pairs}
    return (
        lora.target == "motion" and middle == {True, False} and not any(slot.startswith(MIDDLE) for slot in model.slots)
    )


def _fitting_pairs(lora: Lora, model: MotionModel) -> dict[str, Pair]:
    skips = _skips_middle(lora, model)
    return {name: pair for name, pair in lora.pairs.items() if not (skips and name.startswith(MIDDLE))}


Place = tuple[nn.Module, str, slice]


def _place(modules: dict[str, nn.Module], name: str) -> Place | None:
    """The parameter that holds the matrix called ``name`` in the files, and its rows: three projections are fused."""
    parent, _, part = name.rpartition(".")
    attention = modules.get(parent)
    if isinstance(attention, TemporalAttention) and part in ("to_q", "to_k", "to_v"):
        size = len(attention.to_qkv) // 3
        at = ("to_q", "to_k", "to_v").index(part) * size
        return attention, "to_qkv", slice(at, at + size)
    layer = modules.get(name)
    return (layer, "weight", slice(None)) if isinstance(layer, nn.Linear) else None


def _rows(module: nn.Module, parameter: str, rows: slice) -> Tensor:
    found: Tensor = module.get_parameter(parameter)[rows]
    return found


def _merged(weight: Any, parts: Sequence[Change]) -> Tensor:
    """``weight`` with the products added to its rows: a tensor of the graph where one of them is being trained."""
    # The products are summed up first: so two of them come out the same in either order.
    with torch.inference_mode(False):
        small = weight.dtype.itemsize == 1
        wide = torch.float32 if small else torch.promote_types(weight.dtype, torch.float32)
        total = torch.zeros_like(weight, dtype=wide, requires_grad=False)
        for rows, pair, strength in parts:
            total[rows] += strength * pair.delta(like=total)
        # Eight bits would round most of a change away: such a matrix is a wider one while the scope lasts.
        merged = (weight.detach().to(wide) + total).to(wide if small else weight.dtype)
    return merged if merged.requires_grad else nn.Parameter(merged, requires_grad=False)


def _spatial_changes(unet: nn.Module, loras: Sequence[WeightedLora]) -> Iterator[tuple[nn.Module, Pair, float]]:
    layers = sites.attention_layers(unet) if loras else {}
    for lora, weight in loras:
        for name, pair in lora.pairs.items():
            layer = layers.get(name)
            if layer is None or not _takes(layer, pair):
                raise MotionError(
                    f"the domain adapter {lora.name} does not fit this checkpoint (see {name}): "
                    "choose one made for its base, SD1.5 or SDXL"
                )
            yield layer, pair, weight


def _takes(layer: nn.Module, pair: Pair) -> bool:
    """Whether the shapes fit; a host's quantised layer, of whose matrix only a packed form is left, does not tell."""
    sizes = (getattr(layer, "out_features", None), getattr(layer, "in_features", None))
    return None in sizes or pair.fits(*map(int, sizes))  # type: ignore[arg-type]


class _Product:
    """The forward hook that adds ``weight * scale * up @ down @ x`` to what a linear layer makes of ``x``."""

    def __init__(self, pair: Pair, weight: float) -> None:
        self.strength = weight * pair.scale
        self.matrices = (pair.down, pair.up)

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        down, up = self._following(args[0])
        product = F.linear(F.linear(args[0], down), up)
        return torch.add(output, product.to(output.dtype), alpha=self.strength)

    def _following(self, x: Tensor) -> tuple[Tensor, Tensor]:
        down, up = self.matrices
        if down.requires_grad or up.requires_grad:
            return down.to(x), up.to(x)
        if down.device != x.device or down.dtype != x.dtype:
            with torch.inference_mode(False):  # the scope may outlive the host's inference mode
                self.matrices = (down.to(x), up.to(x))
        return self.matrices
