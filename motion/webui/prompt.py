"""What the host has read out of a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
