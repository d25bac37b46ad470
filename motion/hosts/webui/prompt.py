"""What the host reads out of a prompt, and what it puts around it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from motion import patching
from motion.hosts.webui.backends.base import host_module
from motion.settings.lora_tags import KINDS, LoraTag, read_tag
from motion.settings.prompt_keys import travels
from motion.settings.prompts import texts_of, travel

_JOINED = re.compile(r"\bAND\b")

PLACE = "\0"
"""Stands for a prompt in the text of the styles around it."""


def named_loras(extra_networks: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, Callable[[], LoraTag]]]:
    """The LoRAs that a prompt names, as the host has read it, each with what reads its weights.

    Most are the host's own, which knows more of tags than is known here: weights are read of the others alone.
    """
    for kind in KINDS:
        for parameters in extra_networks.get(kind, ()):
            positional = list(map(str, parameters.positional))
            if positional:
                yield positional[0], partial(read_tag, positional, parameters.named)


def name_once(extra_networks: MutableMapping[str, Any]) -> None:
    """Let a LoRA that several lines of a prompt name act once, with the weights that the last one gives."""
    for kind, named in extra_networks.items():
        extra_networks[kind] = list({tuple(parameters.items[:1]): parameters for parameters in named}.values())


def count_parts(p: Any, frames: int) -> Iterator[tuple[str, int]]:
    """Each prompt of ``p``, and how many parts AND joins in it; of one that travels over ``frames``, in the first."""
    for given in (p.prompt, getattr(p, "hr_prompt", "") or ""):
        for text in [given] if isinstance(given, str) else given:
            if text or given is p.prompt:
                first = texts_of(travel(text, frames, False, frames))[0]
                yield text, len(_JOINED.split(first))


def texts_in_progress(denoiser: Any, asked: Mapping[str, Any]) -> tuple[int, ...]:
    """Which text of each of the host's schedules (prompt editing, as in `[a:b:0.5]`) holds in the step of ``denoiser``
    that it is called for with what is ``asked``. No device is waited for."""
    prompts = getattr(asked.get("cond"), "batch", ())
    schedules = [*(part.schedules for prompt in prompts for part in prompt), *(asked.get("uncond") or ())]
    holding = (
        (number for number, entry in enumerate(each) if denoiser.step <= entry.end_at_step) for each in schedules
    )
    return tuple(next(numbers, 0) for numbers in holding)


def put_styles_around(p: Any, frames: int, undo: ExitStack) -> None:
    """Let the styles of ``p`` stand around all key frames of its prompts; the host would put them behind the last one.

    ``frames`` is the length of the clip. The prompts themselves are `p`'s to put back.
    """
    asked = (getattr(p, name, "") or "" for name in ("prompt", "negative_prompt", "hr_prompt", "hr_negative_prompt"))
    texts = [text for given in asked for text in ([given] if isinstance(given, str) else given)]
    if not p.styles or not any(travels(text, frames) for text in texts):
        return
    styles = host_module("shared").prompt_styles
    around = (styles.apply_styles_to_prompt(PLACE, p.styles), styles.apply_negative_styles_to_prompt(PLACE, p.styles))
    p.prompt, p.negative_prompt = _styled(p.prompt, around[0], frames), _styled(p.negative_prompt, around[1], frames)
    for name, style in zip(("hr_prompt", "hr_negative_prompt"), around, strict=True):
        if getattr(p, name, ""):  # else the host takes the other one
            undo.callback(patching.item(vars(p), name, _styled(getattr(p, name), style, frames)))
    undo.callback(patching.item(vars(p), "styles", []))


def _styled(texts: Any, style: str, frames: int) -> Any:
    """The text, or each of a list, in its place in the style: key frames in lines of their own."""
    if not isinstance(texts, str):
        return [_styled(text, style, frames) for text in texts]
    found = style.replace(PLACE, f"\n{texts}\n" if travels(texts, frames) else texts)
    return found.strip("\n") if texts else found.strip(", ")
