"""LoRAs that a prompt names, in the words of AUTOMATIC1111: `<lora:name:weight>` and its longer forms.

`<lora:name:text:unet>` and `<lora:name:te=text:unet=unet>` give text encoders and UNet a weight of their own, and in
`<lora:name:0: 1, 8: 0.2>` both are a curve over the frames of a clip. Other extensions have added more (`lbw=`,
`start=`), which only they can follow.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple

from motion.errors import MotionError
from motion.fields.curve import Value, short
from motion.fields.curve_text import read_curve
from motion.fields.varying import read_value
from motion.fields.weighted import read_number

LOW, HIGH = -10, 10
"""Bounds of a weight."""
KINDS = ("lora", "lyco")
"""What stands before the first colon."""
_TAG = re.compile(r"<(\w+):([^>]+)>")
_CURVE = re.compile(r"(?:^|[\s,*])@|\baudio\s*\(|:[^:,=]*,[^:,=]*:")
"""What is in a weight that is a curve, and in no other: two keys, steps or a sound."""
_OPEN = re.compile(r"<\s*(?:lora|lyco|hypernet)\b", re.IGNORECASE)


class LoraTag(NamedTuple):
    """A LoRA by its name, and its weights for text encoders and UNet."""

    name: str
    text: Value
    unet: Value


def without_tags(prompt: str, but: Container[str] = ()) -> str:
    """`prompt` without the tags in it, except those of the LoRAs called `but`."""
    return _TAG.sub(lambda found: found[0] if found[1] in KINDS and _split(found[2])[0] in but else "", prompt)


def tags_alone(prompt: str) -> str:
    """The tags in `prompt`, and nothing else."""
    return "".join(found[0] for found in _TAG.finditer(prompt))


def tag_texts(prompt: str) -> dict[str, str]:
    """What stands between the brackets of each LoRA's last tag, by its name; unread, for others may know more of it."""
    return {_split(text)[0]: text for kind, text in _TAG.findall(prompt) if kind in KINDS}


def has_curve(tag_text: str) -> bool:
    """Whether the weight in what stands between a tag's brackets is a curve."""
    weight = _split(tag_text)[1]
    return "=" not in weight and _CURVE.search(weight) is not None


def has_curves(prompt: str) -> bool:
    """Whether the weight of a LoRA is a curve."""
    return any(map(has_curve, tag_texts(prompt).values()))


def with_numbers(prompt: str, frame: int, frames: int) -> str:
    """`prompt` as one of ``frames`` is told it, with a number in the place of each curve, to a hundredth."""

    def number(found: re.Match[str]) -> str:
        if found[1] not in KINDS or not has_curve(found[2]):
            return found[0]
        name, weight = _split(found[2])
        return f"<{found[1]}:{name}:{short(round(read_curve(weight).at(frames)[frame], 2))}>"

    return _TAG.sub(number, prompt)


def lora_tags(prompt: str) -> list[LoraTag]:
    """The LoRAs that `prompt` names, in order. Raises MotionError for tags of other kinds and damaged ones."""
    tags = []
    for kind, text in _TAG.findall(prompt):
        if kind not in KINDS:
            raise MotionError(f"the prompt has <{kind}:{text:.40}>: give <lora:name:weight>, or take it out")
        tags.append(read_tag_text(text))
    rest = without_tags(prompt)
    if found := _OPEN.search(rest):
        raise MotionError(f"the prompt has {rest[found.start() :][:40]}: give <lora:name:weight>")
    return tags


def read_tag_text(text: str) -> LoraTag:
    """The tag between whose brackets ``text`` stands. Raises MotionError as `read_tag`, and for curves over steps and
    sounds."""
    if has_curve(text):
        name, weight = _split(text)
        value = read_value(weight, f"the weight of the LoRA {name:.80}", LOW, HIGH)
        if read_curve(value).over_steps or read_curve(value).sounds:
            raise MotionError(
                f"the weight of the LoRA {name:.80} is {weight!r:.80}: in a prompt give a curve over frames alone, "
                "such as 0: 1, 8: 0.2"
            )
        return LoraTag(name, value, value)
    items = [item.split("=", 1) for item in text.split(":")]
    positional = [item[0] for item in items if len(item) == 1]
    return read_tag(positional, {item[0]: item[1] for item in items if len(item) == 2})


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


def _split(tag_text: str) -> tuple[str, str]:
    """Its name and the rest."""
    name, _, weight = tag_text.partition(":")
    return name, weight


def check_weight(text: str) -> float:
    """The weight that `text` spells. Raises MotionError if it is none."""
    return read_number(text, LOW, HIGH, "LoRA weight")
