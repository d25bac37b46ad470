"""Settings of clips that are longer than their module reaches."""

from __future__ import annotations

from dataclasses import dataclass

from motion.fields.table import Choice, Number, setting
from motion.settings.choices import (
    CONTEXT_ENGINES,
    CONTEXT_FUSES,
    CONTEXT_SCHEDULES,
    MOST_FRAMES,
    SECOND_SCHEDULES,
)


@dataclass(frozen=True)
class WindowSettings:
    """How a clip is cut into windows, and how far its module reaches."""

    context_length: int = setting(
        Number, 0, "Context length", "frames drawn together; 0 = as suits the module",
        0, MOST_FRAMES, 1, 64, key="Motion context length", group="windows",
        detail="0: all if the module reaches so far, else as many as it was trained on",
    )  # fmt: skip
    context_overlap: int = setting(
        Number, 4, "Context overlap", "frames that windows share; more: smoother, slower",
        0, MOST_FRAMES - 1, 1, 32, key="Motion context overlap", group="windows",
    )  # fmt: skip
    context_stride: int = setting(
        Number, 1, "Context stride", "2 up: windows that skip frames besides; slower", 1, 8, 1, 4,
        key="Motion context stride", group="windows",
        detail="2: windows of every second frame besides; 3: and of every fourth ...",
    )  # fmt: skip
    context_schedule: str = setting(
        Choice, "uniform", "Context schedule", "how windows lie; uniform suits most clips",
        CONTEXT_SCHEDULES, key="Motion context schedule", group="windows",
        detail="uniform: borders move in each step; static: they stay; batched: no overlap; composite: frames from all "
        "over the clip until it is settled what it shows, then uniform; hierarchical: key frames, then what lies "
        "between two of them (ControlVideo), without a motion module",
    )  # fmt: skip
    context_until: float = setting(
        Number, 1.0, "Context until", "part of the steps after which the second context schedule holds; 1 = never",
        0, 1, 0.05, 1, key="Motion context until", group="windows",
    )  # fmt: skip
    context_then: str = setting(
        Choice, "static", "Second context schedule", "how windows lie in the steps after that", SECOND_SCHEDULES,
        key="Motion second context schedule", group="windows", needs=("context_until",),
    )  # fmt: skip
    context_fuse: str = setting(
        Choice, "pyramid", "Context fuse method", "how windows are mixed where they overlap", CONTEXT_FUSES,
        key="Motion context fuse method", group="windows",
        detail="flat: all count the same; pyramid: a window counts most in its middle; overlap-linear: it fades in and "
        "out where it overlaps; relative: by nearness to its middle; random: by chance, anew in each step; "
        "gauss-sigma: a bell, wide in the noise and narrow in the end; delayed reverse sawtooth: its first half next "
        "to nothing",
    )  # fmt: skip
    context_engine: str = setting(
        Choice, "denoiser", "Context engine", "denoiser: least memory; attention: fastest", CONTEXT_ENGINES,
        key="Motion context engine", group="windows",
        detail="denoiser: the memory of one window for any length; temporal attention: no frame is computed twice",
    )  # fmt: skip
    view_length: int = setting(
        Number, 0, "View length", "frames of a window that its temporal attention sees together; 0 = all",
        0, MOST_FRAMES, 1, 64, key="Motion view length", group="windows",
        detail="windows that are longer than the motion module reaches, each in views that are not; of the engine "
        "denoiser",
    )  # fmt: skip
    view_overlap: int = setting(
        Number, 4, "View overlap", "frames that views share", 0, MOST_FRAMES - 1, 1, 32,
        key="Motion view overlap", group="windows", needs=("view_length",),
    )  # fmt: skip
    position_cap: int = setting(
        Number, 0, "Position cap", "use the first positions of the motion module's table only; 0 = all",
        0, MOST_FRAMES, 1, 64, key="Motion position cap", group="windows",
        detail="a module that moves best in 16 frames: cap 16, and position length 24 for clips of 24",
    )  # fmt: skip
    position_length: int = setting(
        Number, 0, "Position length", "stretch the position table to so many frames; 0 = as it is",
        0, MOST_FRAMES, 1, 128, key="Motion position length", group="windows",
        detail="positions between those of the file are interpolated, so that longer windows move together; all of "
        "it slower",
    )  # fmt: skip
    position_offset: int = setting(
        Number, 0, "Position offset", "begin the position table so many positions later", 0, MOST_FRAMES - 1, 1, 32,
        key="Motion position offset", group="windows",
    )  # fmt: skip
