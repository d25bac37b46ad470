"""Settings of a clip that is made of another one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from motion.errors import MotionError
from motion.fields.table import Field, Flag, Number, setting
from motion.settings.choices import MOST_FRAMES

_RANGE = re.compile(r"\s*(\d*)\s*-\s*(\d*)\s*", re.ASCII)


def parse_range(text: str) -> tuple[int, int | None]:
    """The first frame of `FIRST-LAST` and the one behind its last, None for the end; either may be left out, counted
    from 0. Raises MotionError."""
    found = _RANGE.fullmatch(text.strip() or "-")
    first, last = ((int(part) if part else None) for part in (found.groups() if found else ("", "")))
    if not found or (last is not None and last < (first or 0)):
        raise MotionError(f"the range of the source clip is {text:.40}: give FIRST-LAST, such as 10-50")
    return first or 0, None if last is None else last + 1


@dataclass(frozen=True)
class FrameRange(Field):
    """Which frames of a clip are used, `FIRST-LAST`; nothing is all of them."""

    metavar = "FIRST-LAST"

    @property
    def remedy(self) -> str:
        return "give FIRST-LAST, such as 10-50, or nothing for all frames"

    def check(self, value: Any) -> Any:
        self._accept(value, isinstance(value, str))
        if value.strip():
            parse_range(value)
        return value.strip()


@dataclass(frozen=True)
class SourceSettings:
    """How far it may leave its source."""

    strength: float = setting(
        Number, 0.5, "Denoising strength", "how much of the source clip is drawn anew: 0 = least, 1 = all of it",
        0, 1, 0.05, 1, key="Denoising strength", group="source",
    )  # fmt: skip

    mask_blur: int = setting(
        Number, 4, "Mask blur", "pixels over which a mask fades out", 0, 64, 1, 64, key="Mask blur", group="source"
    )

    def first_step(self, steps: int) -> int:
        """The first of ``steps`` that is taken, as the WebUIs count it."""
        return steps - 1 - int(min(self.strength, 0.999) * steps)


@dataclass(frozen=True)
class SourceClip:
    """The source of a WebUI's clip, and what it feeds, or how it goes on."""

    source: str = setting(
        Field, "", "Source clip", "path of a clip or a folder of frames that this one is made of",
        key="Motion source", group="source",
        detail="below the WebUI's folder or another one that its page may show files of",
    )  # fmt: skip
    source_range: str = setting(
        FrameRange, "", "Source range", "its frames FIRST-LAST, counted from 0; empty: all",
        key="Motion source range", group="source", needs=("source",),
    )  # fmt: skip
    source_every: int = setting(
        Number, 1, "Every n-th frame", "1: each frame of the source, 2: every second ...", 1, 1000, 1, 16,
        key="Motion source every", group="source", needs=("source",),
    )  # fmt: skip
    source_fps: float = setting(
        Number, 0.0, "Target FPS", "leaves source frames out or repeats them to this rate; 0 = its own", 0, 100, 1, 30,
        key="Motion source FPS", group="source", needs=("source",),
    )  # fmt: skip
    source_latents: bool = setting(
        Flag, True, "Video to video", "frames begin with the source's, noised", key="Motion source latents",
        group="source", needs=("source",),
    )  # fmt: skip
    source_strength: float = setting(
        Number, 0.5, "Source denoising strength", "txt2img: how much is drawn anew; img2img has its own slider",
        0, 1, 0.05, 1, key="Motion source strength", group="source", needs=("source",),
    )  # fmt: skip
    source_control: bool = setting(
        Flag, False, "Source for ControlNet", "shows its frames to enabled units without an image of their own",
        key="Motion source ControlNet", group="source", needs=("source",),
    )  # fmt: skip
    source_keys: int = setting(
        Number, 0, "Key frames every", "each n-th source frame is a key frame; 0 = none", 0, 1000, 1, 32,
        key="Motion source keys", group="source", needs=("source",),
    )  # fmt: skip
    extend: int = setting(
        Number, 0, "Extend: frames given", "the source goes on from so many of its last frames; 0 = it does not",
        0, 1000, 1, 16, key="Motion extend", group="source", needs=("source",),
        detail="new frames are put behind it; Frames is how many are drawn at a time, with those given",
    )  # fmt: skip
    extend_to: int = setting(
        Number, 0, "Extend to", "frames of the whole, drawn round by round; 0 = one round", 0, MOST_FRAMES, 1, 256,
        key="Motion extend to", group="source", needs=("extend",),
    )  # fmt: skip
    connect: str = setting(
        Field, "", "Connect to", "path of a clip that the new frames lead over to; as many of its first are given",
        key="Motion connect to", group="source", needs=("extend",), detail="lies where a source may",
    )  # fmt: skip


@dataclass(frozen=True)
class StructureSettings:
    """How much of their structure is kept."""

    structure_blur: int = setting(
        Number, 0, "Structure blur", "times that what ControlNets are shown is blurred and halved; 0 = as it is",
        0, 7, 1, 7,
        key="Motion structure blur", group="source", needs=("source_control",),
    )  # fmt: skip
