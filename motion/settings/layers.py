"""Settings of the temporal layers, beyond how strongly they act."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from motion.errors import MotionError
from motion.fields.curve import Value
from motion.fields.table import Field, is_plain, setting
from motion.fields.varying import Varying, VaryingWeights, read_value
from motion.fields.weighted import Weighted

STRONGEST = 10


@dataclass(frozen=True)
class BlockEffects(VaryingWeights):
    """Blocks of the UNet by their names, each with an effect; an interface holds them as text."""

    def check(self, value: Any) -> Any:
        try:
            found: tuple[Weighted, ...] = super().check(value)
        except MotionError as error:
            raise MotionError(f"block effects: {error}") from error
        for name, _ in found:
            self._accept(name, re.fullmatch(r"mid|(?:down|up)(?:\.\d)?", name, re.ASCII) is not None)
        return found

    @property
    def remedy(self) -> str:
        bounds = f"from {self.low} to {self.high}"
        return f'give blocks and their effects, {bounds}, such as down.0:0.5, mid:0, up:"0: 1, -1: 0"'

    def format(self, value: Any) -> Any:
        return self.write(value)


@dataclass(frozen=True)
class LayerSettings:
    """What becomes of their attention, and where they act."""

    attention_scale: float | str = setting(
        Varying, 1.0, "Attention scale", "how sharply frames look at each other; below 1: less motion; or a curve",
        0, 10, 0.05, 2, key="Motion attention scale", group="layers",
        detail="the keys of the motion module's attention are multiplied by it",
    )  # fmt: skip
    effect_mask: str = setting(
        Field, "", "Movement mask", "path of a picture or clip: white moves, grey half as much, black stands still",
        key="Motion movement mask", group="layers",
        detail="what the motion module adds at each place is multiplied by it; below the WebUI's folder or another one "
        "that its page may show files of",
    )  # fmt: skip
    block_effects: tuple[Weighted, ...] = setting(
        BlockEffects, (), "Effect by block", "times the motion scale in blocks: down.0:0.5, mid:0, up:1", 0, STRONGEST,
        key="Motion block effects", group="layers",
        detail="down.0 is the UNet's first block, up.3 its last; down and up are all of theirs; an effect may be a "
        "curve in quotation marks",
    )  # fmt: skip


class FurtherModule(NamedTuple):
    """A motion module that acts beside the clip's own; as the API takes it an object of these names.

    `module` names a file, `effect` is a number or a curve, `start` and `end` are parts of the way through sampling, and
    `mask` is the path of a picture or clip that is white where it moves.
    """

    module: str
    effect: Value = 1.0
    start: float = 0.0
    end: float = 1.0
    mask: str = ""


@dataclass(frozen=True)
class FurtherModules(Field):
    """Any number of motion modules besides the clip's own, as a tuple of `FurtherModule`; as text JSON, a list of
    objects."""

    metavar = "JSON"

    @property
    def remedy(self) -> str:
        return (
            'give a list of {"module": "name", "effect": 1, "start": 0, "end": 1, "mask": "path"}, '
            f"effect from 0 to {STRONGEST} or a curve, start and end from 0 to 1"
        )

    def check(self, value: Any) -> Any:
        given = value
        if isinstance(value, str):
            given = () if not value.strip() else None
            with suppress(ValueError, RecursionError):
                given = json.loads(value) if given is None else given
        self._accept(value, isinstance(given, (tuple, list)))
        return tuple(self._module(item) for item in given)

    def write(self, value: Any) -> str:
        defaults = FurtherModule._field_defaults
        named = [
            {name: part for name, part in item._asdict().items() if name not in defaults or part != defaults[name]}
            for item in value
        ]
        return json.dumps(named, ensure_ascii=False) if named else ""

    def format(self, value: Any) -> Any:
        return json.dumps([item._asdict() for item in value], ensure_ascii=False) if value else ""

    def with_curves(self, value: Any, change: Callable[[str], Any]) -> Any:
        return tuple(
            item._replace(effect=change(item.effect)) if isinstance(item.effect, str) else item for item in value
        )

    def _module(self, item: Any) -> FurtherModule:
        try:
            found = FurtherModule(**item) if isinstance(item, Mapping) else FurtherModule(*item)
        except TypeError:
            raise MotionError(f"{self.name} is {item!s:.80}: {self.remedy}") from None
        texts = (found.module, found.mask)
        self._accept(item, all(isinstance(text, str) and is_plain(text) for text in texts) and found.module != "")
        numbers = (found.start, found.end, *([] if isinstance(found.effect, str) else [found.effect]))
        self._accept(item, all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in numbers))
        effect = read_value(str(found.effect), f"the effect of {found.module:.80}", 0, STRONGEST)
        self._accept(item, 0 <= found.start <= found.end <= 1)
        return found._replace(effect=effect, start=float(found.start), end=float(found.end))
