"""LoRAs that a prompt names, in the words of AUTOMATIC1111: `<lora:name:weight>` and its longer forms.

`<lora:name:text:unet>` and `<lora:name:te=text:unet=unet>` give text encoders and UNet a weight of their own. Other
extensions have added more (`lbw=`, `start=`), which only they can follow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from motion.errors import MotionError
from motion.fields.weighted import read_number

LOW, HIGH = -10, 10
"""Bounds of a weight."""
KINDS = ("lora", "lyco")
"""What stands before the first colon."""
_TAG = re.compile(r"<(\w+):([^>]+)>")
_OPEN = re.compile(r"<\s*(?:lora|lyco|hypernet)\b", re.IGNORECASE)


class LoraTag(NamedTuple):
    """A LoRA by its name, and its weights for text encoders and UNet."""

    name: str
    text: float
    unet: float


def without_tags(prompt: str) -> str:
    """`prompt` without the tags in it."""
    return _TAG.sub("", prompt)


def lora_tags(prompt: str) -> list[LoraTag]:
    """The LoRAs that `prompt` names, in order. Raises MotionError for tags of other kinds and damaged ones."""
    tags = []
    for kind, text in _TAG.findall(prompt):
        if kind not in KINDS:
            raise MotionError(f"the prompt has <{kind}:{text:.40}>: give <lora:name:weight>, or take it out")
        items = [item.split("=", 1) for item in text.split(":")]
        positional = [item[0] for item in items if len(item) == 1]
        tags.append(read_tag(positional, {item[0]: item[1] for item in items if len(item) == 2}))
    rest = without_tags(prompt)
    if found := _OPEN.search(rest):
        raise MotionError(f"the prompt has {rest[found.start() :][:40]}: give <lora:name:weight>")
    return tags


def read_tag(positional: Sequence[str], named: Mapping[str, str]) -> LoraTag:
    """The tag of these items, as a WebUI hands them on: those with an equals sign by their names, the others in order.

    Raises MotionError for a weight that is none, and for what only other extensions can follow.
    """
    name, *weights = positional or [""]
    unknown = [*(named.keys() - {"te", "unet"}), *weights[2:]]
    if not name or unknown:
        what = f"{name} with {unknown[0]:.40}, which is not known here" if unknown else "no name"
        raise MotionError(f"the prompt names the LoRA {what}: give <lora:name:weight> or <lora:name:te=1:unet=0.5>")
    text = named.get("te", weights[0] if weights else "") or "1"
    unet = named.get("unet", weights[1] if len(weights) > 1 else text)
    return LoraTag(name, check_weight(text), check_weight(unet))


def check_weight(text: str) -> float:
    """The weight that `text` spells. Raises MotionError if it is none."""
    return read_number(text, LOW, HIGH, "LoRA weight")
