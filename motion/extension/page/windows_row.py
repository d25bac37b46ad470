"""The picture of the context windows in the accordion, drawn anew when a setting that they follow from changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr

from motion.errors import MotionError
from motion.extension.models import library
from motion.extension.page.notes import alarm, note
from motion.extension.page.windows_picture import describe_windows, drawing
from motion.models.motion.architecture import Architecture
from motion.sampling.windows import plan
from motion.settings.tab import Tab

SETTINGS = (
    *("module", "frames", "loop", "context_length", "context_overlap", "context_stride", "context_schedule"),
    *("context_fuse", "context_engine"),
)
"""What windows are planned by."""


class WindowsRow:
    """The place of the picture, empty until Motion is switched on: building the page reads no files."""

    def __init__(self, elem_id: Callable[[str], str]) -> None:
        self.elem_id = elem_id

    def build(self) -> None:
        """Draw it."""
        self.picture = gr.HTML(elem_id=self.elem_id("windows"))

    def follow(self, made: Mapping[str, Any], steps: Any) -> None:
        """Draw the picture when Motion is switched on and whenever a setting or the host's ``steps`` change."""
        inputs = [steps, *(made[name] for name in SETTINGS)]
        for changing in (made["enabled"], *inputs):
            changing.change(draw_windows, inputs=inputs, outputs=[self.picture], show_progress=False)


def draw_windows(steps: float, *values: Any) -> str:
    """The windows of a clip with these `SETTINGS`, or why there can be none; nothing without a module."""
    try:
        tab = Tab(**dict(zip(SETTINGS, values, strict=True)))
        files = library()
        module = files.describe(files.find(tab.module)) if tab.module else None
        if module is None or module.family is None:
            return ""
        windows = plan(tab, Architecture.of_unet(module.family, module.widths, positions=module.frames))
    except MotionError as error:
        return alarm(error)
    count = max(1, int(steps or 1))
    return note(describe_windows(windows, count)) + (drawing(windows, count) if windows.cut else "")
