"""What a finished job leaves: clip files under the host's output rules, and what page and API show of them."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from motion.errors import MotionError
from motion.hosts.webui.base import host_module, option
from motion.hosts.webui.job import FinishedClip, Job
from motion.hosts.webui.refusals import Refused
from motion.video.write import write

IN_AN_IMAGE_TAG = ("gif", "webp", "apng")
"""Formats that play in the host's gallery, which shows pictures only."""
MOVIES = ("mp4", "webm")
NAME_LENGTH = 200
"""Most characters of a file's name that come from the user's pattern; file systems end at 255 bytes or so."""
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
    """Write the clips and put them into the host's result; `p` is its own again by now."""
    written: list[Written] = []
    covers: list[Any] = []
    failed: MotionError | None = None
    for number, clip in enumerate(clips):
        files: list[Written] = []
        try:
            files = _write(p, job, clip, processed.all_seeds[number * job.frames])
        except Exception as error:  # the frames are there; what became of the clip is said, and the API fails
            failed = Refused(error)
            p.comment(f"Motion: the clip could not be written: {error}")
        written += files
        for file in files:
            _announce(p, file)
        covers.append(_cover(clip, [file.path for file in files if file.path]))
    shown = [] if job.several_prompts else clips
    processed.images = [*covers, *(picture for clip in shown for picture in clip.pictures)]
    processed.infotexts = [*(clip.texts[0] for clip in clips), *(text for clip in shown for text in clip.texts)]
    processed.comments = "".join(f"{comment}\n" for comment in p.comments)
    _play(processed, clips, written)
    if "Seed" in p.extra_generation_params:  # until now each frame's own
        seeds = processed.all_seeds[: len(clips) * job.frames : job.frames]
        p.extra_generation_params["Seed"] = seeds[0] if len(seeds) == 1 else seeds
    processed.js = _with_clips(processed.js, written, failed if p.is_api else None)


def _write(p: Any, job: Job, clip: FinishedClip, seed: int) -> list[Written]:
    """The clip in each of its formats: kept if the host keeps its pictures, else where the page plays it from."""
    frames = np.stack([np.asarray(picture.convert("RGB")) for picture in clip.pictures])
    formats = [name for name in job.tab.formats if name != "frames"]
    written = []
    with ExitStack() as undo:
        kept = p.save_samples() or not p.is_api
        if p.save_samples():
            stem = _place(p, clip, seed, formats)
        elif p.is_api:
            stem = Path(undo.enter_context(tempfile.TemporaryDirectory())) / "clip"
        else:
            stem = Path(tempfile.mkdtemp(prefix="motion-", dir=_temporary_folder())) / "clip"
        for name in formats:
            path = stem.with_name(f"{stem.name}.{name}")
            write(frames, path, job.tab.fps, clip.texts[0], _h264())
            data = base64.b64encode(path.read_bytes()).decode() if p.is_api else None
            written.append(Written(name, path if kept else None, data, len(frames), job.tab.fps, seed))
    return written


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


def _place(p: Any, clip: FinishedClip, seed: int, formats: Sequence[str]) -> Path:
    """Where the host would save a picture of this seed and prompt, under its own name patterns; without a suffix."""
    images, opts = host_module("images"), host_module("shared").opts
    names = images.FilenameGenerator(p, seed, p.prompt, clip.pictures[0])
    videos = option("outdir_videos", None)  # the host's own folder for such files, which it divides no further
    folder = Path(p.outpath_samples if videos is None else option("outdir_samples", "") or videos)
    if opts.save_to_dirs and videos is None:
        folder /= names.apply(opts.directories_filename_pattern or "[prompt_words]").lstrip(" ").rstrip("\\ /")
    folder.mkdir(parents=True, exist_ok=True)
    pattern = opts.samples_filename_pattern or ("[seed]" if opts.save_to_dirs else "[seed]-[prompt_spaces]")
    name = names.apply(pattern)[:NAME_LENGTH]
    if opts.save_images_add_number or not name:
        number = f"{images.get_next_sequence_number(str(folder), ''):05}"
        name = f"{number}-{name}" if name else number
    candidates = (folder / (f"{name}-{again}" if again else name) for again in count())
    return next(stem for stem in candidates if not any(Path(f"{stem}.{suffix}").exists() for suffix in formats))


def _temporary_folder() -> str:
    """A folder that the host's page may show files from."""
    folder = Path(host_module("shared").opts.temp_dir or Path(tempfile.gettempdir()) / "gradio")
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)


def _cover(clip: FinishedClip, files: Sequence[Path]) -> Any:
    """The clip's first frame, which the gallery shows as the animated file where it can."""
    cover = clip.pictures[0].copy()
    cover.info["parameters"] = clip.texts[0]
    playable = [path for path in files if path.suffix[1:] in IN_AN_IMAGE_TAG]
    if playable:
        cover.already_saved_as = str(playable[0])
    return cover


def _with_clips(js: Callable[[], str], written: Sequence[Written], failed: MotionError | None) -> Callable[[], str]:
    """The result's `js` with the clips in it."""

    def described() -> str:
        if failed is not None:
            raise failed
        clips = [asdict(file) | {"path": file.path and str(file.path)} for file in written]
        return json.dumps({**json.loads(js()), "clips": clips})

    return described
