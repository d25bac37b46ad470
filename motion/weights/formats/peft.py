"""What PEFT keeps beside a LoRA's tensors and they do not tell: how strongly each layer is changed.

diffusers writes it into a file's metadata, PEFT itself into a JSON file beside it. The names are those of PEFT's
`LoraConfig`: a layer is changed by ``lora_alpha / r``, with ``use_rslora`` by ``lora_alpha / sqrt(r)`` (Kalajdzievski
2023, arXiv:2312.03732), and ``alpha_pattern`` gives single layers an alpha of their own.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from motion.errors import MotionError

METADATA = "lora_adapter_metadata"
"""The key of a safetensors file's metadata under which diffusers keeps the configuration of each part of the model."""
SAVED = ("adapter_model", "adapter_config.json")
"""How PEFT calls the file of the tensors, without its suffix, and the configuration beside it."""

PARTS = ("unet", "text_encoder", "text_encoder_2")
"""What diffusers calls the parts of the model."""

_PATTERN = re.compile(r"\^?[\w.]+")


@dataclass(frozen=True)
class Strengths:
    """How strongly the layers of one part of the model are changed; without an alpha by 1."""

    alpha: float | None = None
    own: Mapping[str, float] = field(default_factory=dict)
    """An alpha of their own for layers whose names end so."""
    root: bool = False
    """Whether the rank counts by its square root."""

    def scale(self, layer: str, rank: int) -> float:
        """The factor of ``up @ down`` in `layer`."""
        ends = (alpha for end, alpha in self.own.items() if layer == end or layer.endswith(f".{end}"))
        alpha = next(ends, self.alpha)
        if alpha is None or not rank:
            return 1.0
        return alpha / (math.sqrt(rank) if self.root else rank)


@dataclass(frozen=True)
class PeftConfig:
    """The strengths of each part of the model ("unet", "text_encoder"; "" where nothing is said of parts)."""

    parts: Mapping[str, Strengths] = field(default_factory=dict)

    @classmethod
    def of(cls, metadata: Mapping[str, str], path: Path) -> PeftConfig:
        """That of the file at `path` with this `metadata`; an empty one if PEFT has not made it.

        Raises MotionError, as the end of a sentence, for a damaged one and for what changes more than strengths (DoRA).
        """
        text, where = metadata.get(METADATA), METADATA
        if text is None and path.stem == SAVED[0]:
            text, where = _beside(path), SAVED[1]
        try:
            given = json.loads(text or "{}")
            parts: dict[str, dict[str, Any]] = defaultdict(dict)
            for key, value in given.items():
                part, _, name = key.rpartition(".")
                parts[part][name] = value
            return cls({part: _strengths(values) for part, values in parts.items()})
        except MotionError:
            raise
        except (ValueError, AttributeError, TypeError) as error:
            raise MotionError(f"has a damaged {where}: get the original file") from error

    def scale(self, layer: str, rank: int) -> float:
        """The factor of ``up @ down`` in `layer`, named as in the file."""
        part, _, name = layer.partition(".")
        if part not in PARTS:  # files of one part alone leave its name out, here or in the configuration
            part, name = "unet", layer
        return self.parts.get(part, self.parts.get("", Strengths())).scale(name, rank)


def _beside(path: Path) -> str | None:
    file = path.with_name(SAVED[1])
    return file.read_text(encoding="utf-8") if file.is_file() else None


def _strengths(values: Mapping[str, Any]) -> Strengths:
    """Those of a `LoraConfig`. Raises ValueError and TypeError for values of another kind."""
    if values.get("use_dora"):
        raise MotionError("is a DoRA (use_dora), which is not supported: merge it into a checkpoint first")
    alpha, own = values.get("lora_alpha"), values.get("alpha_pattern") or {}
    if any(_PATTERN.fullmatch(name) is None for name in own):
        raise MotionError("has an expression in its alpha_pattern, which is not supported: merge it first")
    named = {name.removeprefix("^"): _positive(value) for name, value in own.items()}
    return Strengths(None if alpha is None else _positive(alpha), named, bool(values.get("use_rslora")))


def _positive(value: Any) -> float:
    if isinstance(value, bool) or not 0 < value < math.inf:
        raise ValueError(value)
    return float(value)
