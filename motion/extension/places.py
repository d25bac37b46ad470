"""Where a job's clips lie: under the host's output rules, or where its page plays from what is not kept."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from motion import patching
from motion.hosts.webui.backends.base import host_module, option
from motion.hosts.webui.refusals import FULL, HostError

NAME_LENGTH = 200
"""Most characters of a file's name that come from the user's pattern; file systems end at 255 bytes or so."""
SMALLEST = 100
"""How much smaller a clip is at the most than its frames are: less room than that is no room."""


def check(p: Any, frames: int) -> None:
    """Raise HostError where clips of so many frames cannot be written; the folder is made."""
    folder = _find_folder(p) if p.save_samples() else Path(temporary_folder())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        raise HostError(f"clips cannot be written to {folder} ({error.strerror}): change that or the folder") from error
    if free < frames * p.width * p.height * 3 // SMALLEST:
        raise HostError(f"the disk of {folder} has {free >> 20} MB left: make room for the clip", FULL)


def allowed_folders() -> list[Path]:
    """From where the host's page may show files: the data folder, and what the user named."""
    named = host_module("shared").cmd_opts.gradio_allowed_path or []
    return list(map(Path, [host_module("paths").data_path, *named]))


def place(p: Any, picture: Any, seed: int, number: int, formats: Sequence[str]) -> Path:
    """Where the host would save a picture of this seed and prompt, under its own name patterns; without a suffix.

    ``number`` is the clip's among those of the job, of which the host made pictures.
    """
    images, opts = host_module("images"), host_module("shared").opts
    names = images.FilenameGenerator(p, seed, p.prompt, picture)
    folder = _find_folder(p)
    with _counted(p, number):
        if opts.save_to_dirs and option("outdir_videos", None) is None:
            folder /= names.apply(opts.directories_filename_pattern or "[prompt_words]").lstrip(" ").rstrip("\\ /")
        folder.mkdir(parents=True, exist_ok=True)
        pattern = opts.samples_filename_pattern or ("[seed]" if opts.save_to_dirs else "[seed]-[prompt_spaces]")
        name = names.apply(pattern)[:NAME_LENGTH]
    if opts.save_images_add_number or not name:
        sequence = f"{images.get_next_sequence_number(str(folder), ''):05}"
        name = f"{sequence}-{name}" if name else sequence
    candidates = (folder / (f"{name}-{again}" if again else name) for again in count())
    return next(stem for stem in candidates if not any(Path(f"{stem}.{suffix}").exists() for suffix in formats))


def temporary_folder() -> str:
    """A folder that the host's page may show files from."""
    folder = Path(host_module("shared").opts.temp_dir or Path(tempfile.gettempdir()) / "gradio")
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)


def _find_folder(p: Any) -> Path:
    """The folder of what is kept, which a host with one for such files divides no further."""
    videos = option("outdir_videos", None)
    return Path(p.outpath_samples if videos is None else option("outdir_samples", "") or videos)


@contextmanager
def _counted(p: Any, number: int) -> Iterator[None]:
    """Within, the host's names count the clip ``number`` as they do the picture of that number."""
    iteration, index = divmod(number, p.batch_size)
    undo = [patching.item(vars(p), name, value) for name, value in (("iteration", iteration), ("batch_index", index))]
    try:
        yield
    finally:
        for one in undo:
            one()
