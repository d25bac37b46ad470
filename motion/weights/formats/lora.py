"""Motion LoRAs and domain adapters under every published naming, in one neutral form: pairs of matrices by layer.

Motion LoRAs change the temporal layers of a motion module, a domain adapter the attention of the image model (Guo et
al. 2023, arXiv:2307.04725, sections 4.1 and 4.3). The namings differ in how they end, how they begin and whether
they write dots or underscores, so a name is flattened first and then looked up in the tables of layers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Literal

from torch import Tensor

from motion.errors import MotionError
from motion.weights.formats.names import SLOTS, TABLES
from motion.weights.formats.names import to_diffusers as module_names
from motion.weights.formats.pairs import DOMAIN_ADAPTER, LORA, MOTION_LORA, Pair, open_lora
from motion.weights.kinds import REFUSALS

TRIGGER = "modelspec.trigger_phrase"
"""The key of a file's metadata that holds its trigger words (Stability AI's ModelSpec)."""

UNET_PREFIXES = ("lora_unet_", "unet_", "")
"""What namings put before a UNet's layers, flattened."""

TEXT_STARTS = ("lora_te", "text_encoder", "text_model_encoder", "encoder_layers")
"""How namings begin the layers of text encoders, flattened."""

SPATIAL = tuple(
    f"{{block}}.attentions.{{n}}.transformer_blocks.{{t}}.attn{{a}}.{part}"
    for part in ("to_q", "to_k", "to_v", "to_out.0")
)
"""The layers that a domain adapter changes, in diffusers' names."""

Target = Literal["motion", "image"]
_TITLES: dict[Target, str] = {"motion": "a motion LoRA", "image": "a domain adapter"}
_PLACEHOLDERS = {r"\{block\}": r"(?P<block>down_blocks_\d+|mid_block|up_blocks_\d+)"}
_PLACEHOLDERS |= {rf"\{{{name}\}}": rf"(?P<{name}>\d+)" for name in "nat"}


@dataclass(frozen=True)
class Lora:
    """A motion LoRA or a domain adapter: its pairs by the layers they change.

    Layers of a motion module are named as in the authors' files (``down_blocks.0.motion_modules.1.temporal_
    transformer.transformer_blocks.0.attention_blocks.0.to_q``), those of an image model as in diffusers
    (``down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q``), both without ``.weight``. ``name`` is the file's.
    """

    name: str
    target: Target
    pairs: Mapping[str, Pair]
    metadata: Mapping[str, str]
    plain: bool = False
    """Whether it is any LoRA of an image model, by the file's own names of its layers."""
    tells_text: bool = False
    """Whether its file has layers of text encoders besides, which are not among the pairs."""

    @property
    def kind(self) -> str:
        """What users call it."""
        return "LoRA" if self.plain else {"motion": MOTION_LORA, "image": DOMAIN_ADAPTER}[self.target]

    @property
    def trigger(self) -> str:
        """The words that call what it has learned, as the file's metadata has them; empty where there are none."""
        return self.metadata.get(TRIGGER, "").strip()


def load(path: str | PathLike[str], target: Target | None = None) -> Lora:
    """The motion LoRA or domain adapter at `path`, under any published naming, in float32 and without a file handle.

    With a `target` only the one ("motion") or the other ("image") is taken. Raises MotionError, naming the file and
    the key or the remedy, for other kinds of files, LoRAs of other layers (text encoder, convolutions), other
    decompositions (LoHa, DoRA) and matrices that make no product.
    """
    file = open_lora(path)
    try:
        named = dict(_named(file.pairs))
    except MotionError as error:
        raise MotionError(f"{path} {error}") from error
    found_target: Target = "motion" if any(".motion_modules." in name for name in named) else "image"
    if target not in (None, found_target):
        raise MotionError(f"{path} is {_TITLES[found_target]}, and not {_TITLES[target]}: give it as what it is")
    return Lora(Path(path).stem, found_target, named, file.metadata)


def load_plain(path: str | PathLike[str]) -> Lora:
    """The LoRA at `path` as prompts name it: what it does to the image model's UNet, whatever layers these are; motion
    LoRAs and domain adapters as `load` has them.

    Raises MotionError for other kinds of files and decompositions (LoHa, LoKr, DoRA).
    """
    file = open_lora(path)
    if file.kind != LORA:
        return load(path)
    of_unet = {name: pair for name, pair in file.pairs.items() if not flat(name).startswith(TEXT_STARTS)}
    return Lora(Path(path).stem, "image", of_unet, file.metadata, True, len(of_unet) < len(file.pairs))


def to_authors(lora: Lora) -> dict[str, Tensor]:
    """The state dict of `lora` in the authors' names, which have no alpha: a scale goes into its upper matrix."""
    return _spelled({name: name for name in lora.pairs}, lora)


def to_diffusers(lora: Lora) -> dict[str, Tensor]:
    """The state dict of `lora` in the names of diffusers' attention processors, which the authors' go by, too."""
    layers = {name: name for name in lora.pairs}
    if lora.target == "motion":
        layers = {name: next(iter(module_names({f"{name}.weight": pair.up}))) for name, pair in lora.pairs.items()}
    return {f"unet.{key}": tensor for key, tensor in _spelled(layers, lora).items()}


def _spelled(layers: Mapping[str, str], lora: Lora) -> dict[str, Tensor]:
    """The matrices under the names of processors: `attn.to_q` is `attn.processor.to_q_lora`."""
    state = {}
    for name, pair in lora.pairs.items():
        parent, _, part = layers[name].removesuffix(".weight").removesuffix(".0").rpartition(".")
        state[f"{parent}.processor.{part}_lora.down.weight"] = pair.down
        state[f"{parent}.processor.{part}_lora.up.weight"] = pair.up if pair.scale == 1 else pair.scale * pair.up
    return state


def flat(name: str) -> str:
    """One spelling for underscores and dots, and for attention processors (`to_out` for `to_out.0`)."""
    spelled = name.replace(".", "_").replace("_processor_", "_")
    return f"{spelled}_0" if spelled.endswith("_to_out") else spelled


def _named(found: Mapping[str, Pair]) -> Iterator[tuple[str, Pair]]:
    """The pairs under neutral names. Raises MotionError, as the end of a sentence."""
    seen: dict[str, str] = {}
    for spelled, pair in found.items():
        name = _neutral(spelled)
        if name is None:
            raise MotionError(f"changes {spelled}, which no motion LoRA and no adapter does: {REFUSALS['LoRA'][1]}")
        if name in seen:
            raise MotionError(f"names {name} twice, as {seen[name]} and {spelled}: get the original file")
        if (".motion_modules." in name) != (".motion_modules." in next(iter(seen), name)):
            raise MotionError(f"changes motion layers and image layers ({spelled}): give them as two files")
        if not (pair.down.ndim == pair.up.ndim == 2 and pair.down.shape[0] == pair.up.shape[1] > 0):
            shapes = f"{list(pair.up.shape)} and {list(pair.down.shape)}"
            raise MotionError(f"has matrices {shapes} for {spelled}, which make no product: get the original file")
        seen[name] = spelled
        yield name, pair


def _neutral(spelled: str) -> str | None:
    """The neutral name of a layer in any naming; None for one that is none of motion's or of image attention."""
    name = flat(spelled)
    name = name.removeprefix(next(prefix for prefix in UNET_PREFIXES if name.startswith(prefix)))
    for pattern, target in _layers().items():
        if match := pattern.fullmatch(name):
            parts = match.groupdict()
            return target.format(**{**parts, "block": re.sub(r"_(\d+)$", r".\1", parts["block"])})
    return None


@cache
def _layers() -> dict[re.Pattern[str], str]:
    """Every layer that is known: its flattened name in a naming, and its neutral name."""
    rows = {row: row for row in SPATIAL}
    for layout in ("authors", "diffusers"):
        for source, target in TABLES[layout].items():
            if source.endswith(".weight") and isinstance(target, str):
                rows[(SLOTS[layout] + source).removesuffix(".weight")] = (SLOTS["authors"] + target)[: -len(".weight")]
    return {_pattern(flat(row)): target for row, target in rows.items()}


def _pattern(row: str) -> re.Pattern[str]:
    pattern = re.escape(row)
    for placeholder, expression in _PLACEHOLDERS.items():
        pattern = pattern.replace(placeholder, expression)
    return re.compile(pattern, re.ASCII)
