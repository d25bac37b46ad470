"""What a finished job leaves: clip files under the host's output rules, and what page and API show of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from motion.extension import places
from motion.extension.files import Files, Written
from motion.hosts.webui.backends.base import option
from motion.hosts.webui.finished import FinishedClip
from motion.hosts.webui.job import Job
from motion.settings.tab import TAB_FIELDS

IN_AN_IMAGE_TAG = ("gif", "webp", "apng")
"""Formats that play in the host's gallery, which shows pictures only."""
MOVIES = ("mp4", "webm")
GALLERY_FRAMES = 64
GALLERY = TAB_FIELDS["gallery"].label


def deliver(p: Any, processed: Any, job: Job, clips: Sequence[FinishedClip]) -> Files:
    """Write the clips and put them into the host's result; `p` is its own again by now.

    Of a clip that could not be written the frames are there, and the result says why.
    """
    files = Files(p)
    covers = [_cover(clip) for clip in clips]
    for number, (clip, cover) in enumerate(zip(clips, covers, strict=True)):
        seed = processed.all_seeds[number * job.frames * len(job.parts)]
        facts = Written("", None, None, job.length(len(clip.pictures)), job.tab.fps, seed, picture=cover)
        animate(cover, _write(files, job, clip, number, facts))
    shown = [] if job.several_prompts else [_for_gallery(p, job, clip) for clip in clips]
    processed.images = [*covers, *(picture for clip in shown for picture in clip.pictures)]
    processed.infotexts = [*(clip.texts[0] for clip in clips), *(text for clip in shown for text in clip.texts)]
    _play(processed, clips, files.written)
    if "Seed" in p.extra_generation_params:  # until now each frame's own
        drawn = job.frames * len(job.parts)
        seeds = processed.all_seeds[: len(clips) * drawn : drawn]
        p.extra_generation_params["Seed"] = seeds[0] if len(seeds) == 1 else seeds
    files.list_in(processed, processed.js)
    return files


def formats(job: Job) -> list[str]:
    """Those of files; pictures of frames are the host's affair."""
    return [name for name in job.tab.formats if name != "frames"]


def animate(picture: Any, written: Sequence[Written]) -> None:
    """Let the gallery show a clip's file where it would show ``picture``, if it can."""
    playable = [file.path for file in written if file.path is not None and file.format in IN_AN_IMAGE_TAG]
    if playable:
        picture.already_saved_as = str(playable[0])


def _for_gallery(p: Any, job: Job, clip: FinishedClip) -> FinishedClip:
    """What the page shows of the clip's single frames: each costs it a file and the browser a download."""
    frames, choice = len(clip.pictures), job.tab.gallery
    if p.is_api or choice == "all":
        return clip
    if choice == "none":
        return FinishedClip([], [])
    step = -(-frames // GALLERY_FRAMES) if choice == "auto" else int(choice)
    if choice == "auto" and step > 1:
        p.comment(f"Motion: of the {frames} frames the gallery shows one in {step}; '{GALLERY}' shows more")
    return FinishedClip(clip.pictures[::step], clip.texts[::step])


def _write(files: Files, job: Job, clip: FinishedClip, number: int, facts: Written) -> list[Written]:
    """The clip in each of its formats, and its text beside it where the host writes those."""
    frames, stem = np.stack([np.asarray(picture.convert("RGB")) for picture in clip.pictures]), None
    with files.noting(f"the clip of seed {facts.seed}"):
        if files.p.save_samples():
            stem = places.place(files.p, clip.pictures[0], facts.seed, number, formats(job))
            if formats(job) and option("save_txt", False):
                stem.with_name(f"{stem.name}.txt").write_text(f"{clip.texts[0]}\n", encoding="utf-8")
        return files.write(stem, formats(job), facts, lambda: job.played(frames), clip.texts[0])
    return []


def _play(processed: Any, clips: Sequence[FinishedClip], written: Sequence[Written]) -> None:
    """Let a host that has a player (Neo) play the clip there: it shows one, and nothing beside it."""
    movies = [str(file.path) for file in written if file.path is not None and file.format in MOVIES]
    if len(clips) == 1 and movies and hasattr(processed, "video_path"):
        processed.video_path = movies[0]


def _cover(clip: FinishedClip) -> Any:
    """The clip's first frame, which stands for it in the gallery."""
    cover = clip.pictures[0].copy()
    cover.info["parameters"] = clip.texts[0]
    return cover
