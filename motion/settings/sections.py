"""The sections in which an interface shows the rows of the field tables, in the order of use."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

FIRST = "main"
"""What is always in sight."""
SECTIONS: Mapping[str, str] = MappingProxyType(
    {
        FIRST: "",
        "img2img": "Initial image",
        "source": "Source clip",
        "keys": "Key frames",
        "lora": "LoRA and adapter",
        "windows": "Long clips",
        "motion": "Motion and noise",
        "layers": "Temporal layers",
        "guidance": "Guidance",
        "cross_frame": "Cross-frame attention",
        "zero_shot": "Without a motion module",
        "colours": "Colours",
        "output": "Output",
    }
)
"""What a row's `group` is called; a section without a row is not shown."""
