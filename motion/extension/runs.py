"""A script of the host that makes one result of many jobs (X/Y/Z plot, Loopback, prompts from a file): the result has
all of their clips, and a grid of clips is a clip."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from motion import patching
from motion.extension.files import Files, Written
from motion.extension.output import animate, formats
from motion.hosts.webui.backends.base import host_module
from motion.hosts.webui.finished import FinishedClip
from motion.hosts.webui.job import Job
from motion.hosts.webui.refusals import Refused

ATTRIBUTE = "_motion_run"
"""The attribute of `p`, and of the copies that a script makes of it, that leads to the run."""
GRID, LEGEND = "image_grid", "draw_grid_annotations"
"""The functions of the host's `images` by which scripts lay pictures out and write beside them."""
ROUNDING = 1e-6
"""Of a frame: what a frame's number may lose on its way through seconds."""


@dataclass(frozen=True)
class Moving:
    """A picture of a result that is one moment of a clip: a cover, or a grid of covers."""

    picture: Any
    """Kept, so that no other picture is taken for it."""
    seconds: float
    fps: float
    at: Callable[[float], Any]
    """The picture at that many seconds."""
    grid: bool = False

    @property
    def frames(self) -> int:
        return max(round(self.seconds * self.fps), 1)

    def walk(self) -> Iterator[Any]:
        """The frames one by one, uint8 ``[h, w, 3]``."""
        return (np.asarray(self.at(number / self.fps).convert("RGB")) for number in range(self.frames))


class Run:
    """What the jobs of one script leave. It stands in for the script's `run`, for this ``p`` alone."""

    def __init__(self, p: Any, script: Any) -> None:
        self.p = p
        self.original: Callable[..., Any] = script.run
        self.files = Files(p)
        self.job: Job | None = None
        """The newest."""
        self.moving: dict[int, Moving] = {}
        """The moving pictures by their identity."""
        self.folder: Path | None = None
        """Where frames wait, while the script runs."""
        self.undo = patching.item(vars(script), "run", self)

    def __call__(self, p: Any, *args: Any) -> Any:
        self.undo()
        if p is not self.p:
            return self.original(p, *args)
        with ExitStack() as undo:
            undo.callback(self.moving.clear)
            folder = tempfile.TemporaryDirectory(prefix="motion-", ignore_cleanup_errors=True)
            undo.callback(setattr, self, "folder", None)
            self.folder = Path(undo.enter_context(folder))
            images = host_module("images")
            for name in (GRID, LEGEND):
                undo.callback(patching.item(vars(images), name, self._followed(getattr(images, name))))
            processed = self.original(p, *args)
            self._finish(processed)
        return processed

    def gather(self, job: Job, clips: Sequence[FinishedClip], covers: Sequence[Any], files: Files) -> None:
        """Another job is done. Its frames wait for the grid in which they may be laid out."""
        if self.folder is None:
            return
        self.job = job
        self.files.written += files.written
        self.files.problems += files.problems
        for clip, cover in zip(clips, covers, strict=True):
            path = self.folder / f"{len(self.moving)}.npy"
            np.save(path, np.stack([np.asarray(picture.convert("RGB")) for picture in clip.pictures]))
            self.moving[id(cover)] = _cover(cover, np.load(path, mmap_mode="r"), job.tab.fps)

    def _followed(self, draw: Callable[..., Any]) -> Callable[..., Any]:
        """``draw`` of the host, whose picture of moving pictures, of one or of several, is a moving picture."""

        def drawn(given: Any, *args: Any, **kwargs: Any) -> Any:
            made, several = draw(given, *args, **kwargs), isinstance(given, (list, tuple))
            parts = [self.moving[id(one)] for one in (given if several else [given]) if id(one) in self.moving]
            if parts and len(parts) == (len(given) if several else 1):

                def at(seconds: float) -> Any:
                    shown = [part.at(seconds) for part in parts]
                    return draw(shown if several else shown[0], *args, **kwargs)

                longest, finest = max(part.seconds for part in parts), max(part.fps for part in parts)
                self.moving[id(made)] = Moving(made, longest, finest, at, grid=True)
            return made

        return drawn

    def _finish(self, processed: Any) -> None:
        """Put all clips, those of grids, and why others are not there into the script's result."""
        refused = Refused.of_job()
        if self.job is None:
            if refused is not None:
                raise refused
            return
        if refused is not None:
            self.files.tell(str(refused))
        for picture, text in zip(processed.images, processed.infotexts, strict=False):
            grid = self.moving.get(id(picture))
            if grid is not None and grid.grid:
                saved = getattr(picture, "already_saved_as", None)
                clip = Written("", None, None, grid.frames, grid.fps, processed.seed, True, picture)
                stem = Path(saved).with_suffix("") if saved else None
                animate(picture, self.files.write(stem, formats(self.job), clip, grid.walk, text))
        self.files.list_in(processed, type(processed).js.__get__(processed))


def watch(p: Any) -> None:
    """Follow the script that is chosen for ``p``, if there is one."""
    chosen = p.script_args[0]
    script = p.scripts.selectable_scripts[chosen - 1] if chosen else None
    if script is None:
        return
    left = vars(script).get("run")
    if isinstance(left, Run):  # of a job that has failed before it ran
        left.undo()
    Refused.forget()
    setattr(p, ATTRIBUTE, Run(p, script))


def of(p: Any) -> Run | None:
    """The run that the job of ``p`` belongs to."""
    run: Run | None = vars(p).get(ATTRIBUTE)
    return run


def _cover(picture: Any, frames: Any, fps: float) -> Moving:
    """The first of ``frames``, uint8 ``[n, h, w, 3]``; the last one stays."""

    def at(seconds: float) -> Any:
        return Image.fromarray(frames[min(int(seconds * fps + ROUNDING), len(frames) - 1)])

    return Moving(picture, len(frames) / fps, fps, at)
