"""Motion LoRAs and the domain adapter on an attached UNet: `load` reads one, `attach` is the scope it lasts for.

The temporal layers are this project's own, so while the scope lasts layers stand in for them on this UNet to whose
matrices a motion LoRA is added: nothing is left to compute at a step, and other jobs that use the same module see none
of it. Where its weight is a curve, or the matrices are stored in eight bits, they add the product instead. The UNet is
the host's, which patches, swaps and quantises its weights for prompt LoRAs of its own, at class level in AUTOMATIC1111
and in the weights in Forge. A domain adapter therefore leaves weights and classes alone and adds its product to the
layer's output in a forward hook.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn

from motion import patching
from motion.errors import MotionError
from motion.fields.curve import Value
from motion.models.motion.model import MotionModel
from motion.models.motion.stand_ins import LayerChanges, put_stand_ins, stand_ins, with_changes
from motion.models.motion.temporal import TemporalAttention, TemporalTransformer
from motion.sampling.arrangement import Arrangement
from motion.sampling.casting import is_stored
from motion.sampling.frame_values import FrameValues, number_of
from motion.sampling.lora_products import Change, Product, merge, strength_of
from motion.sampling.windows import Windows
from motion.settings.prompt_keys import travels
from motion.weights.checkpoint import FAMILY_HINT
from motion.weights.formats.lora import Lora, flat, load, load_plain
from motion.weights.formats.pairs import Pair
from motion.weights.formats.unet_layers import unet_layers

_log = logging.getLogger(__name__)
MIDDLE = "mid_block."
"""How the names of the layers in the middle block begin."""

__all__ = ["Lora", "add_trigger_words", "attach", "load", "load_plain", "notes"]

WeightedLora = tuple[Lora, Value]
"""A LoRA and its weight, or the curve of it."""


@contextmanager
def attach(
    unet: nn.Module,
    model: MotionModel | None,
    loras: Iterable[WeightedLora],
    frames: int = 16,
    arrangement: Arrangement | None = None,
) -> Iterator[None]:
    """Within the scope ``model`` and ``unet`` compute with ``W + weight * alpha / rank * up @ down``.

    ``loras`` are pairs of a LoRA and its weight, a number or a curve over ``frames``, those of the finished clip: then
    every layer computes with the weight of each frame, as they lie in the ``arrangement`` of the `motion.attach` beside
    it. Motion LoRAs change what ``model``, the motion module beside which this is used, does on ``unet`` and on no
    other: the model itself stays as it is. Domain adapters go to the attention of ``unet`` (any that `motion.attach`
    takes). Several add up, in whatever order; one of weight 0 is as if it were not there. The product follows device
    and dtype of what it is added to, and gradients reach the matrices of a LoRA that asks for them. On exit the UNet is
    exactly as it was found.

    Of a motion LoRA for modules with a middle block (v2) the other layers go with modules without one (v1, v3), which
    is logged. Raises MotionError before anything is changed for a LoRA that changes other layers which are not there
    or of another shape, or was trained on another family of motion modules, for a motion LoRA without a motion
    module, and for curves with keys that are not in the clip.
    """
    active = _active(loras)
    varying = [weight for _, weight in active if isinstance(weight, str)]
    values = FrameValues(arrangement or Arrangement(Windows(frames)), frames, varying)
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
            changed = _changed(temporal, values, is_stored(model))
            undo.callback(
                put_stand_ins(unet, {own: with_changes(running[name], changed) for name, own in model.slots.items()})
            )
        for layer, pair, weight in spatial:
            # First: what others make of the layer's output may have other rows than its input.
            undo.callback(patching.after(layer, Product(pair, strength_of(weight, values.of_rows)), first=True))
        if varying:
            undo.callback(values.follow(unet, rows=True))
            if spatial:
                undo.callback(patching.item(vars(values.arrangement), "by_row", True))
        yield


def notes(model: MotionModel | None, loras: Iterable[WeightedLora]) -> list[str]:
    """A sentence for each of ``loras`` that changes ``model`` without some of its layers."""
    return [
        f"the motion LoRA {lora.name} changes a middle block too, which this {model.architecture.family.name} motion "
        "module lacks: its other layers count"
        for lora, _ in _active(loras)
        if model is not None and _skips_middle(lora, model)
    ]


def add_trigger_words(prompt: str, loras: Iterable[WeightedLora], frames: int) -> str:
    """``prompt``, for a clip of ``frames``, and behind it the trigger words of the LoRAs in use that it has not yet.

    All frames are told them.
    """
    behind = "\n" if travels(prompt, frames) else ", "
    for trigger in (lora.trigger for lora, _ in _active(loras)):
        if trigger.casefold() not in prompt.casefold():
            prompt = f"{prompt}{behind}{trigger}" if prompt.strip() else trigger
    return prompt


def adapts_frames(loras: Iterable[WeightedLora]) -> bool:
    """Whether one of ``loras`` changes layers of the UNet itself otherwise in each frame."""
    return any(isinstance(weight, str) and lora.target == "image" for lora, weight in _active(loras))


def copied(loras: Iterable[WeightedLora]) -> list[Pair]:
    """What goes to the device of the UNet beside the weights of a motion module, into which the others are merged."""
    beside = (lora for lora, weight in _active(loras) if lora.target == "image" or isinstance(weight, str))
    return [pair for lora in beside for pair in lora.pairs.values()]


def _active(loras: Iterable[WeightedLora]) -> list[WeightedLora]:
    """Those that do something, each with its number, or with the text of a curve that changes."""
    numbered = [(lora, number_of(weight)) for lora, weight in loras]
    return [(lora, weight) for lora, weight in numbered if weight != 0]


Changes = dict[tuple[nn.Module, str], list[Change]]


def _changed(changes: Changes, values: FrameValues, stored: bool) -> LayerChanges:
    """The matrices that numbers are merged into, unless they are ``stored`` in eight bits; and the other products for
    the layers that multiply by them."""
    merged, products = {}, defaultdict(list)
    for (module, name), parts in changes.items():
        if fixed := [part for part in parts if not (stored or isinstance(part.weight, str))]:
            merged[module, name] = merge(module.get_parameter(name), fixed)
        multiplying = module.project if isinstance(module, TemporalAttention) else module
        for part in parts:
            if stored or isinstance(part.weight, str):
                strength = strength_of(part.weight, values.along_frames)
                products[multiplying].append(Product(part.pair, strength, part.rows))
    return LayerChanges(merged, products)


def _running(unet: nn.Module, model: MotionModel | None) -> dict[str, TemporalTransformer]:
    """What runs on ``unet`` for each of the model's slots: its own layer, or what another scope has put there."""
    put = stand_ins(unet)
    return {} if model is None else {name: put.get(layer, layer) for name, layer in model.slots.items()}


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
            changes[module, parameter].append(Change(rows, pair, weight))
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


def _spatial_changes(unet: nn.Module, loras: Sequence[WeightedLora]) -> Iterator[tuple[nn.Module, Pair, Value]]:
    layers = unet_layers(unet) if loras else {}
    for lora, weight in loras:
        for name, pair in lora.pairs.items():
            layer = layers.get(flat(name))
            if layer is None or not _takes(layer, pair):
                raise MotionError(
                    f"the {lora.kind} {lora.name} does not fit this checkpoint (see {name}): "
                    "choose one made for its base, SD1.5 or SDXL"
                )
            yield layer, pair, weight


def _takes(layer: nn.Module, pair: Pair) -> bool:
    """Whether the shapes fit; a host's quantised layer, of whose matrix only a packed form is left, does not tell."""
    if hasattr(layer, "kernel_size"):
        return pair.fits(*layer.get_parameter("weight").shape)
    sizes = (getattr(layer, "out_features", None), getattr(layer, "in_features", None))
    return None in sizes or pair.fits(*map(int, sizes))  # type: ignore[arg-type]
