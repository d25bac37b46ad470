"""The WebUI's parameters text (infotext) of a clip, and back from it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, cast

from motion.fields.table import Field
from motion.settings.settings import FIELDS, Clip

SELDOM = (
    *("guidance", "layers", "cross_frame", "zero_shot", "source", "hires", "control"),
    *("cache", "step_noise", "noise_share", "source_caption", "noise_layers", "seeds", "freeinit_noise", "naive_reuse"),
    *("naive_reuse_end", "context_until", "context_then", "view_length", "view_overlap", "position_cap"),
    *("position_length", "position_offset"),
)
"""Groups of settings, and then single ones, that infotext leaves out at their defaults."""


def infotext(clip: Clip, extra: Mapping[str, object] = MappingProxyType({})) -> str:
    """The WebUI's parameters text: prompt, negative prompt, then one line of `Key: value` pairs.

    `extra` (model names and hashes) joins the pairs; empty values are left out, and defaults of what is seldom used.
    """
    values = ((row, getattr(clip, row.name)) for row in _pair_fields().values())
    written = ((row, value) for row, value in values if value != row.default or not is_seldom(row))
    pairs = {row.key: row.write(value) for row, value in written}
    pairs.update({key: str(value) for key, value in extra.items() if str(value)})
    last = ", ".join(f"{key}: {_quoted(value)}" for key, value in pairs.items())
    negative = f"{FIELDS['negative'].label}: {clip.negative}" if clip.negative else ""
    return "\n".join(part for part in (clip.prompt, negative, last) if part)


def is_seldom(row: Field) -> bool:
    """Whether infotext leaves the setting out at its default: few clips have to do with it."""
    return row.group in SELDOM or row.name in SELDOM or "key_frames" in row.needs


def parse_infotext(text: str) -> tuple[Clip, dict[str, str]]:
    """`infotext` backwards: the clip, and the pairs that are none of its fields. Raises MotionError."""
    prompts, _, last = ("\n" + text.strip()).rpartition("\n")
    positive, _, negative = prompts.partition(f"\n{FIELDS['negative'].label}:")
    values: dict[str, Any] = {"prompt": positive.strip(), "negative": negative.strip()}
    extra = {}
    for key, value in re.findall(r'([^:,]+): ("(?:[^"\\]|\\.)*"|[^,]*)(?:, |$)', last):
        plain = cast(str, json.loads(value)) if value.startswith('"') else value
        if key in _pair_fields():
            values[_pair_fields()[key].name] = _pair_fields()[key].parse(plain)
        else:
            extra[key] = plain
    return Clip(**values), extra


def is_infotext(text: str) -> bool:
    """Whether the text describes a clip: a comment of another program or a still's infotext names no frames."""
    return f"{FIELDS['frames'].key}: " in text.strip().rpartition("\n")[2]


@lru_cache(maxsize=1)
def _pair_fields() -> dict[str, Field]:
    return {row.key: row for row in FIELDS.values() if row.name not in ("prompt", "negative")}


def _quoted(value: str) -> str:
    """Values that would break the line of pairs are quoted as JSON, as the WebUI does."""
    return json.dumps(value, ensure_ascii=False) if re.search(r'[,:\n"]', value) else value
