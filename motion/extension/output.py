"""What a finished job leaves: clip files under the host's output rules, and what page and API show of them."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from motion.extension import places
from motion.hosts.webui.base import host_module, option
from motion.hosts.webui.job import FinishedClip, Job
from motion.video.write import write

IN_AN_IMAGE_TAG = ("gif", "webp", "apng")
"""Formats that play in the host's gallery, which shows pictures only."""
MOVIES = ("mp4", "webm")
CLIP_COMMENT = "Motion clip: "
"""What `javascript/motion.js` looks for."""


@dataclass(frozen=True)
class Written:
    """One clip in one format. `path` is None where nothing is kept, `base64` where nobody asks for it."""

    format: str
    path: Path | None
    base64: str | None
    frames: int
    fps: float
    seed: int


def deliver(p: Any, processed: Any, job: Job, clips: Sequence[FinishedClip]) -> None:
    """Write the clips and put them into the host's result; `p` is its own again by now.

    Of a clip that could not be written the frames are there, and the result says why.
    """
    written: list[Written] = []
    covers: list[Any] = []
    problems: list[str] = []
    for number, clip in enumerate(clips):
        files = _write(p, job, clip, number, processed.all_seeds[number * job.frames], problems)
        written += files
        for file in files:
            _announce(p, file)
        covers.append(_cover(clip, [file.path for file in files if file.path]))
    for problem in problems:
        p.comment(f"Motion: {problem}")
    shown = [] if job.several_prompts else clips
    processed.images = [*covers, *(picture for clip in shown for picture in clip.pictures)]
    processed.infotexts = [*(clip.texts[0] for clip in clips), *(text for clip in shown for text in clip.texts)]
    processed.comments = "".join(f"{comment}\n" for comment in p.comments)
    _play(processed, clips, written)
    if "Seed" in p.extra_generation_params:  # until now each frame's own
        seeds = processed.all_seeds[: len(clips) * job.frames : job.frames]
        p.extra_generation_params["Seed"] = seeds[0] if len(seeds) == 1 else seeds
    processed.js = _with_clips(processed.js, written, problems)


def _write(p: Any, job: Job, clip: FinishedClip, number: int, seed: int, problems: list[str]) -> list[Written]:
    """The clip in each of its formats: kept if the host keeps its pictures, else where the page plays it from.

    Why others are not there is told to ``problems``.
    """
    frames = np.stack([np.asarray(picture.convert("RGB")) for picture in clip.pictures])
    formats = [name for name in job.tab.formats if name != "frames"]
    written = []
    with _noting(problems, f"the clip of seed {seed}"), ExitStack() as undo:
        kept = p.save_samples() or not p.is_api
        stem = _stem(p, clip, number, seed, formats, undo)
        for name in formats:
            with _noting(problems, f"the {name} of seed {seed}"):
                path = stem.with_name(f"{stem.name}.{name}")
                write(frames, path, job.tab.fps, clip.texts[0], _h264())
                data = base64.b64encode(path.read_bytes()).decode() if p.is_api else None
                written.append(Written(name, path if kept else None, data, len(frames), job.tab.fps, seed))
        if p.save_samples() and formats and option("save_txt", False):
            stem.with_name(f"{stem.name}.txt").write_text(f"{clip.texts[0]}\n", encoding="utf-8")
    return written


@contextmanager
def _noting(problems: list[str], what: str) -> Iterator[None]:
    """Within, an error is a sentence: the frames are there, and other files."""
    try:
        yield
    except Exception as error:
        problems.append(f"{what} could not be written: {error}")


def _stem(p: Any, clip: FinishedClip, number: int, seed: int, formats: Sequence[str], undo: ExitStack) -> Path:
    """The clip's files without a suffix; what lies there only for the answer goes with ``undo``."""
    if p.save_samples():
        return places.place(p, clip.pictures[0], seed, number, formats)
    if p.is_api:
        return Path(undo.enter_context(tempfile.TemporaryDirectory())) / "clip"
    return Path(tempfile.mkdtemp(prefix="motion-", dir=places.temporary_folder())) / "clip"


def _h264() -> dict[str, str]:
    """What the user has set for videos on the settings page of a host that has such settings (Neo)."""
    found = {name: option(f"video_{name}", None) for name in ("crf", "preset", "profile")}
    return {name: str(value) for name, value in found.items() if value is not None}


def _play(processed: Any, clips: Sequence[FinishedClip], written: Sequence[Written]) -> None:
    """Let a host that has a player (Neo) play the clip there: it shows one, and nothing beside it."""
    movies = [str(file.path) for file in written if file.path is not None and file.format in MOVIES]
    if len(clips) == 1 and movies and hasattr(processed, "video_path"):
        processed.video_path = movies[0]


def _announce(p: Any, file: Written) -> None:
    """Say where the clip is, in the words that the page's script looks for, and let the page read it."""
    if file.path is None:
        return
    p.comment(f"{CLIP_COMMENT}{file.path}")
    shared = host_module("shared")
    if shared.demo is not None:
        host_module("ui_tempdir").register_tmp_file(shared.demo, str(file.path))


def _cover(clip: FinishedClip, files: Sequence[Path]) -> Any:
    """The clip's first frame, which the gallery shows as the animated file where it can."""
    cover = clip.pictures[0].copy()
    cover.info["parameters"] = clip.texts[0]
    playable = [path for path in files if path.suffix[1:] in IN_AN_IMAGE_TAG]
    if playable:
        cover.already_saved_as = str(playable[0])
    return cover


def _with_clips(js: Callable[[], str], written: Sequence[Written], problems: Sequence[str]) -> Callable[[], str]:
    """The result's `js` with the clips in it, and what became of others."""

    def described() -> str:
        clips = [asdict(file) | {"path": file.path and str(file.path)} for file in written]
        return json.dumps({**json.loads(js()), "clips": clips, "problems": list(problems)})

    return described
