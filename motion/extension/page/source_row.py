"""The source clip on the page: a place to drop its file, and what it is; frames, rate and size follow it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from motion.errors import MotionError
from motion.extension.page.notes import alarm, note, strip
from motion.extension.planning import source
from motion.hosts.source import Source
from motion.hosts.webui.backends.base import host_module
from motion.settings.tab import Tab
from motion.video.files import CLIPS

SETTINGS = ("source", "source_range", "source_every", "source_fps", "extend")
"""What says which frames are used, and what for."""
FOLLOWING = ("frames", "fps")
SIZE = ("width", "height")
"""The host's own components that follow besides, as `plan_row.HOST` names them."""
GLIMPSES, HEIGHT = 8, 72
"""Pictures of the strip, and their height in pixels."""
DROP, CAPTIONS = "Drop a clip here", "Write captions for a folder of clips"


class SourceRow:
    """What stands above the fields of the source clip."""

    def __init__(self, elem_id: Callable[[str], str]) -> None:
        self.elem_id = elem_id

    def build(self) -> None:
        """Draw it."""
        self.drop = gr.File(label=DROP, file_types=list(CLIPS), elem_id=self.elem_id("source_drop"))
        self.said = gr.HTML(elem_id=self.elem_id("source_said"))
        self.captions = gr.Button(CAPTIONS, visible=has_interrogator(), elem_id=self.elem_id("source_captions"))

    def follow(self, made: Mapping[str, Any], host: Mapping[str, Any]) -> None:
        """Say what the clip is whenever it changes; where the user has changed it, let frames, rate and size follow."""
        fields = [made[name] for name in SETTINGS]
        following = [made[name] for name in FOLLOWING] + [host[name] for name in SIZE]
        for changing in (made["enabled"], *fields):
            changing.change(describe, inputs=fields, outputs=[self.said], show_progress=False)
        for typed in fields[: SETTINGS.index("extend")]:
            typed.input(taken, inputs=fields, outputs=following, show_progress=False)
        dropped = self.drop.upload(_path, inputs=[self.drop], outputs=[made["source"]], show_progress=False)
        dropped.then(taken, inputs=fields, outputs=following, show_progress=False)
        self.captions.click(write_captions, inputs=fields[:1], outputs=[self.said])


def has_interrogator() -> bool:
    """Whether the host can say what a picture shows."""
    return hasattr(getattr(host_module("shared"), "interrogator", None), "interrogate")


def write_captions(folder: str) -> str:
    """Write captions for the clips in the folder, and say of how many, or why of none."""
    try:
        written = source.write_captions(folder)
    except MotionError as error:
        return alarm(error)
    return note(f"Captions written: {len(written)}.")


def describe(*values: Any) -> str:
    """A strip of the source clip that these values of `SETTINGS` name and one line on it, or why there is none."""
    try:
        clip = _open(values)
        if clip is None:
            return ""
        found, shown = clip.measure(), clip.glimpses(GLIMPSES)
    except MotionError as error:
        return alarm(error)
    rate = f" at {found.fps:.4g} FPS ({found.frames / found.fps:.1f} s)" if found.fps else ""
    frames = f"{found.frames} frame{'s' * (found.frames > 1)}{rate}, drawn in {found.size}"
    return strip(shown, HEIGHT) + note(f"{Path(str(values[0]).strip()).name}: {frames}.")


def taken(*values: Any) -> list[Any]:
    """What `FOLLOWING` and `SIZE` show of it; they stay as they are where there is none."""
    try:
        clip = _open(values)
        found = None if clip is None else clip.measure()
    except MotionError:
        found = None
    if found is None:
        return [gr.update()] * (len(FOLLOWING) + len(SIZE))
    extended = bool(values[SETTINGS.index("extend")])
    settings = source.measured(found, extended)
    size = [gr.update()] * len(SIZE) if extended else found.size
    return [*(settings.get(name, gr.update()) for name in FOLLOWING), *size]


def _open(values: tuple[Any, ...]) -> Source | None:
    """Raises MotionError."""
    return source.open_source(Tab(**dict(zip(SETTINGS, values, strict=True))))


def _path(upload: Any) -> str:
    return str(getattr(upload, "name", upload) or "")
