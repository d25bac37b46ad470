"""What the settings come to: the picture of the windows, and what the clip will take, told anew when they change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr

from motion.errors import MotionError
from motion.extension.cost import Cost
from motion.extension.models import library
from motion.extension.page.notes import alarm, note
from motion.extension.page.windows_picture import describe_windows, drawing
from motion.models.motion.architecture import Architecture
from motion.sampling.windows import Windows, plan
from motion.settings.tab import Tab

SETTINGS = (
    *("module", "frames", "loop", "context_length", "context_overlap", "context_stride", "context_schedule"),
    *("context_until", "context_then", "context_fuse", "context_engine", "freeinit"),
    *("view_length", "view_overlap", "position_cap", "position_length", "position_offset"),
)
"""What the plan follows from."""
HOST = ("steps", "cfg_scale", "width", "height", "batch_count", "batch_size")
"""The host's own components that the cost follows from, as their elements are called after the tab's name."""
DRAWN = "{drawn} frames are drawn, as this module was trained on, and {kept} kept."


class PlanRow:
    """Two places, empty until Motion is switched on: building the page reads no files."""

    def __init__(self, elem_id: Callable[[str], str]) -> None:
        self.elem_id = elem_id

    def build_cost(self) -> None:
        """Draw the line that says what the clip will take."""
        self.cost = gr.HTML(elem_id=self.elem_id("cost"))

    def build_picture(self) -> None:
        """Draw the place of the windows' picture."""
        self.picture = gr.HTML(elem_id=self.elem_id("windows"))

    def follow(self, made: Mapping[str, Any], host: Mapping[str, Any]) -> None:
        """Tell both when Motion is switched on and whenever a setting or one of the `HOST`'s changes."""
        inputs = [*(host[name] for name in HOST), *(made[name] for name in SETTINGS)]
        for changing in (made["enabled"], *inputs):
            changing.change(describe, inputs=inputs, outputs=[self.picture, self.cost], show_progress=False)


def describe(*values: Any) -> tuple[str, str]:
    """The windows of a clip with these values of `HOST` and `SETTINGS`, and what it will take, or why there can be
    none; nothing without a module."""
    steps, cfg, width, height, count, size = (value or 1 for value in values[: len(HOST)])
    try:
        tab = Tab(**dict(zip(SETTINGS, values[len(HOST) :], strict=True)))
        windows = _windows(tab)
    except MotionError as error:
        return alarm(error), ""
    if windows is None:
        return "", ""
    steps = max(1, int(steps))
    picture = note(describe_windows(windows, steps)) + (drawing(windows, steps) if windows.cut else "")
    drawn = [DRAWN.format(drawn=windows.frames, kept=tab.frames)] if windows.frames > tab.frames else []
    cost = Cost.of(tab, windows, steps, float(cfg), int(width), int(height), int(count * size))
    return picture, note(" ".join([*drawn, cost.describe()]))


def _windows(tab: Tab) -> Windows | None:
    """Those of the tab's module; None where none is chosen yet. Raises MotionError."""
    if tab.zero_shot:
        return plan(tab, None)
    files = library()
    module = files.describe(files.find(tab.module)) if tab.module else None
    if module is None or module.family is None:
        return None
    return plan(tab, Architecture.of_unet(module.family, module.widths, positions=module.frames))
