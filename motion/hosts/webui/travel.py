"""Prompt travel in a WebUI: of what the host has made of each text, what each frame is told.

The WebUIs make the conditions of a batch from one prompt for each picture, in schedules by step (prompt editing, as in
`[a:b:0.5]`) and in parts (AND). Here every key frame's text is made so, once, by the host itself and as it would be for
a picture; between key frames each part is mixed step by step. LoRAs that count the same in all frames are the host's,
which has taken them out of the text before; what others do to its text encoders goes by the tags left in a text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor

from motion.errors import MotionError
from motion.hosts.webui.backends.base import host_module, need
from motion.settings.lora_tags import LoraTag, lora_tags, without_tags
from motion.settings.prompts import INTERPOLATIONS, Mix, texts_of, travel, varies, with_tags_of
from motion.settings.settings import Movement

Schedule = Sequence[Any]
"""The host's `ScheduledPromptConditioning`s: `cond` holds up to step `end_at_step`, the last to the end."""
Named = Callable[[Any, Sequence[LoraTag]], AbstractContextManager[Any]]
"""The scope in which a text is encoded that names LoRAs, beside the batch's networks; it is given both."""
MARK = "\0"
"""Stands between a negative prompt and the LoRAs that it is told with."""
POOLED = 1280
"""Values of SDXL's vector that tell the pooled text; behind them are sizes, the same in all frames."""


def _as_they_are(networks: Any, tags: Sequence[LoraTag]) -> AbstractContextManager[Any]:
    return nullcontext(networks)


class Travel:
    """What the frames of a clip are told.

    Its call stands in for `p.get_conds_with_caching`, which is ``original``: the same arguments and the same result,
    whose schedules are those of the frames. Of ``drawn`` frames the clip keeps as many as ``clip`` says.
    """

    def __init__(self, original: Callable[..., Any], clip: Movement, drawn: int, named: Named = _as_they_are) -> None:
        self.original = original
        self.clip = clip
        self.drawn = drawn
        self.tagged = ""
        """The prompt whose tags negative prompts are to heed, too."""
        self.named = named
        self.interpolate = INTERPOLATIONS[clip.travel]

    def __call__(self, function: Callable[..., Any], required_prompts: Any, *others: Any, **named: Any) -> Any:
        """The conditions of one clip, for which the host wants one prompt per frame, all the same.

        Behind the prompts every host has arguments of its own. If that does not travel, they are the host's.
        Raises MotionError for a key frame that is not in the clip, and for texts that differ in their parts.
        """
        prompt, tagged = required_prompts[0], self.tagged if _is_negative(required_prompts) else ""
        if len(required_prompts) != self.drawn or not (tagged or varies(prompt, self.clip.frames)):
            return self.original(function, required_prompts, *others, **named)
        mixes = self._travel(prompt)
        if tagged:
            mixes = with_tags_of(self._travel(tagged), mixes, MARK)
        texts = texts_of(mixes)
        told = self._told(function, required_prompts, texts, *others, **named)
        parts = _parts(told)
        if len({_length(entry.cond) for text in parts for schedule in text for entry in schedule}) > 1:
            parts = _padded(parts, _empty(required_prompts))
        frames = self._frames(dict(zip(texts, parts, strict=True)), mixes)
        if not hasattr(told, "batch"):
            return [schedule for (schedule,) in frames]
        weights = [part.weight for part in told.batch[0]]
        kind = type(told.batch[0][0])
        return type(told)((len(frames),), [list(map(kind, schedules, weights)) for schedules in frames])

    def _told(
        self,
        function: Callable[..., Any],
        prompts: Any,
        texts: Sequence[str],
        steps: Any,
        caches: Any,
        networks: Any,
        *others: Any,
        **named: Any,
    ) -> Any:
        """What the host makes of each of ``texts``, of those together that name the same LoRAs."""
        groups, found = dict[tuple[LoraTag, ...], dict[str, str]](), dict[str, Any]()
        for text in texts:
            spoken, tags = _spoken(text, _is_negative(prompts))
            groups.setdefault(tags, {})[text] = spoken
        for tags, group in groups.items():
            with self.named(networks, tags) as known:
                like = _like(prompts, list(group.values()))
                told = self.original(function, like, steps, caches, known, *others, **named)
            found |= zip(group, told.batch if hasattr(told, "batch") else told, strict=True)
        each = [found[text] for text in texts]
        return type(told)((len(each),), each) if hasattr(told, "batch") else each

    def _travel(self, prompt: str) -> list[Mix]:
        return travel(prompt, self.clip.frames, self.clip.loop == "closed", self.drawn)

    def _frames(self, parts: dict[str, list[Schedule]], mixes: Sequence[Mix]) -> list[list[Schedule]]:
        """The schedules of each frame; frames that are told the same share them."""
        made = {}
        for mix in dict.fromkeys(mixes):
            pairs = zip(parts[mix.first], parts[mix.second], strict=True)
            made[mix] = [self._between(*pair, mix.weight) for pair in pairs]
        return [made[mix] for mix in mixes]

    def _between(self, first: Schedule, second: Schedule, weight: float) -> Schedule:
        """A schedule that changes wherever either does."""
        if first is second:
            return first
        ends = sorted({entry.end_at_step for entry in (*first, *second)})
        mix = partial(_mixed, weight=weight, interpolate=self.interpolate)
        return [first[0]._replace(end_at_step=end, cond=mix(_at(first, end), _at(second, end))) for end in ends]


def _is_negative(prompts: Any) -> bool:
    return bool(getattr(prompts, "is_negative_prompt", False))


def _spoken(text: str, is_negative: bool) -> tuple[str, tuple[LoraTag, ...]]:
    """What the host is told of a text, and the LoRAs that it names; a negative prompt's own tags are text to hosts."""
    told, _, behind = text.partition(MARK)
    tags = lora_tags(behind if is_negative else text)
    return told if is_negative else without_tags(told), tuple(tag._replace(unet=0.0) for tag in tags if tag.text)


def _like(prompts: Any, texts: Sequence[str]) -> Any:
    """The host's list of prompts, which knows size and kind, with other texts."""
    other = copy(prompts)
    other[:] = texts
    return other


def _parts(told: Any) -> list[list[Schedule]]:
    """The schedules of each text: of a prompt one for each part joined by AND, of a negative prompt one.

    Raises MotionError for texts whose parts differ: A1111 has one number of them in all frames, the Forge family also
    one weight for each.
    """
    if not hasattr(told, "batch"):
        return [[schedule] for schedule in told]
    kinds = list(dict.fromkeys(tuple(part.weight for part in text) for text in told.batch))
    if len(kinds) > 1:
        said = " and ".join("[" + ", ".join(f"{weight:g}" for weight in kind) + "]" for kind in kinds[:2])
        raise MotionError(
            f"the key frames of the prompt have parts joined by AND with weights {said}: give each as many parts, with "
            "the same weights"
        )
    return [[part.schedules for part in text] for text in told.batch]


def _empty(prompts: Any) -> Tensor:
    """The vectors of an empty window of the text encoder. The hosts' caches do not tell what was asked for it, so they
    are left out."""
    need("prompt_parser.get_learned_conditioning")
    nothing = _like(prompts, [""])
    nothing.is_negative_prompt = False  # SDXL's empty negative prompt is no text to the host, but zeros
    with host_module("devices").autocast():
        made = host_module("prompt_parser").get_learned_conditioning(host_module("shared").sd_model, nothing, 1)
    ((entry, *_),) = made
    return _tokens(entry.cond)


def _at(schedule: Schedule, step: int) -> Any:
    return next(entry.cond for entry in schedule if step <= entry.end_at_step)


def _tokens(cond: Any) -> Tensor:
    """The vectors of the tokens, ``[tokens, channels]``; SDXL's are in a table."""
    tokens: Tensor = cond["crossattn"] if isinstance(cond, dict) else cond
    return tokens


def _length(cond: Any) -> int:
    return len(_tokens(cond))


def _padded(parts: Sequence[Sequence[Schedule]], empty: Tensor) -> list[list[Schedule]]:
    """All to the length of the longest, with the vectors of a text encoder's empty window behind them.

    So does the host where texts of one schedule differ in length, and the standalone host everywhere.
    """
    most = max(_length(entry.cond) for text in parts for schedule in text for entry in schedule)

    def pad(entry: Any) -> Any:
        cond, missing = _tokens(entry.cond), (most - _length(entry.cond)) // len(empty)
        longer = torch.cat([cond, *[empty.to(cond)] * missing])
        return entry._replace(cond={**entry.cond, "crossattn": longer} if isinstance(entry.cond, dict) else longer)

    return [[list(map(pad, schedule)) for schedule in text] for text in parts]


def _mixed(first: Any, second: Any, weight: float, interpolate: Callable[[Tensor, Tensor, float], Tensor]) -> Any:
    """Of the tokens' vectors, and of SDXL's pooled text by itself."""
    if not isinstance(first, dict):
        return interpolate(first, second, weight)
    pooled = interpolate(first["vector"][:POOLED], second["vector"][:POOLED], weight)
    return {
        **first,
        "crossattn": interpolate(first["crossattn"], second["crossattn"], weight),
        "vector": torch.cat([pooled, first["vector"][POOLED:]]),
    }
