"""The files of a result's clips: written one by one, announced to the page, listed in the API's answer."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from motion.extension import places
from motion.hosts.webui.backends.base import host_module, option
from motion.video.write import write

CLIP_COMMENT = "Motion clip: "
"""What `javascript/motion-result.js` looks for."""


@dataclass(frozen=True)
class Written:
    """One clip in one format. `path` is None where nothing is kept, `base64` where nobody asks for it."""

    format: str
    path: Path | None
    base64: str | None
    frames: int
    fps: float
    seed: int
    grid: bool = False
    """Whether it is of several clips side by side."""
    picture: Any = None
    """What stands for it in the result."""

    def described(self, place: int | None) -> dict[str, Any]:
        """As the API's answer has it; ``place`` is the picture's among the result's."""
        facts = {name: value for name, value in vars(self).items() if name != "picture"}
        return {**facts, "path": self.path and str(self.path), "image": place}


@dataclass
class Files:
    """What there is of a result's clips, and why others are not there."""

    p: Any
    written: list[Written] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def write(
        self, stem: Path | None, formats: Sequence[str], clip: Written, frames: Callable[[], Iterable[Any]], text: str
    ) -> list[Written]:
        """``clip`` in those formats: files called ``stem`` with a suffix, or, where that is None, for the page to play
        and for the API's answer alone."""
        found: list[Written] = []
        with tempfile.TemporaryDirectory() as gone:
            kept = stem is not None or not self.p.is_api
            stem = stem or Path(gone if self.p.is_api else self._played()) / "clip"
            for name in formats:
                path = stem.with_name(f"{stem.name}.{name}")
                with self.noting(f"the {name} of seed {clip.seed}"):
                    write(frames(), path, clip.fps, text, _h264())
                    data = base64.b64encode(path.read_bytes()).decode() if self.p.is_api else None
                    found.append(replace(clip, format=name, path=path if kept else None, base64=data))
        for file in found:
            self._announce(file)
        self.written += found
        return found

    def _played(self) -> str:
        return tempfile.mkdtemp(prefix="motion-", dir=places.temporary_folder())

    def _announce(self, file: Written) -> None:
        """Say where the clip is, in the words that the page's script looks for, and let the page read it."""
        if file.path is None:
            return
        self.p.comment(f"{CLIP_COMMENT}{file.path}")
        shared = host_module("shared")
        if shared.demo is not None:
            host_module("ui_tempdir").register_tmp_file(shared.demo, str(file.path))

    @contextmanager
    def noting(self, what: str) -> Iterator[None]:
        """Within, an error is a sentence: the frames are there, and other files."""
        try:
            yield
        except Exception as error:
            self.tell(f"{what} could not be written: {error}")

    def tell(self, problem: str) -> None:
        """Let the result say it, on the page and in the API's answer."""
        self.problems.append(problem)
        self.p.comment(f"Motion: {problem}")

    def list_in(self, processed: Any, js: Callable[[], str]) -> None:
        """Let the host's result say which clips there are, in its comments and in ``js``, its own text for the API."""

        places = {id(picture): place for place, picture in enumerate(processed.images)}

        def described() -> str:
            clips = [file.described(places.get(id(file.picture))) for file in self.written]
            return json.dumps({**json.loads(js()), "clips": clips, "problems": self.problems})

        processed.comments = "".join(f"{comment}\n" for comment in self.p.comments)
        processed.js = described


def _h264() -> dict[str, str]:
    """What the user has set for videos on the settings page of a host that has such settings (Neo)."""
    found = {name: option(f"video_{name}", None) for name in ("crf", "preset", "profile")}
    return {name: str(value) for name, value in found.items() if value is not None}
