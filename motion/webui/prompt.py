"""What the host has read out of a prompt."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any


def named_loras(extra_networks: Mapping[str, Sequence[Any]]) -> list[tuple[str, float]]:
    """The names in `<lora:name:weight>` of a prompt as the host has read it, and the weight of each for the UNet.

    `<lora:name:te:unet>` and `<lora:name:te=a:unet=b>` are the host's longer forms.
    """
    named = []
    for parameters in extra_networks.get("lora", ()):
        name, *weights = parameters.positional
        weight = parameters.named.get("unet", weights[1] if len(weights) > 1 else next(iter(weights), 1.0))
        named.append((name, float(weight)))
    return named


def name_once(extra_networks: MutableMapping[str, Any]) -> None:
    """Let a LoRA that several lines of a prompt name act once, with the weights that the last one gives."""
    for kind, named in extra_networks.items():
        extra_networks[kind] = list({tuple(parameters.items[:1]): parameters for parameters in named}.values())
