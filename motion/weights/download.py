"""The published motion modules that are known, and their download: a file appears only when it is whole and checked."""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from threading import Event, Lock, Thread

from motion.errors import MotionError

Progress = Callable[[int, int | None], None]
"""Is given the bytes that have arrived and the bytes there are, None if nobody knows."""

INTERVAL = 0.5
"""Seconds between two calls of a `Progress`."""

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
MOST_TOLD = 100
"""Characters of a library's own words that are shown."""
_running: set[Path] = set()
_running_lock = Lock()


@dataclass(frozen=True)
class KnownModel:
    """A row of `known_models.json`: a published file on Hugging Face's hub.

    `file` is its path in the repository, `size` is in bytes; `size` and `sha256` are None where no source states them.
    """

    name: str
    repo: str
    file: str
    family: str
    base: str
    size: int | None
    sha256: str | None
    note: str

    @property
    def filename(self) -> str:
        """What the file is called on the user's disk."""
        return PurePosixPath(self.file).name

    @property
    def url(self) -> str:
        """Where a browser gets the file."""
        return f"https://huggingface.co/{self.repo}/resolve/main/{self.file}"


class _Refused(Exception):
    """Why a download cannot be, as the middle of the sentence that `download` makes of it."""


@cache
def known() -> tuple[KnownModel, ...]:
    """The published modules, best choices first."""
    text = Path(__file__).with_name("known_models.json").read_text(encoding="utf-8")
    return tuple(KnownModel(**row) for row in json.loads(text))


def download(model: KnownModel, folder: Path, progress: Progress | None = None) -> Path:
    """Fetch `model` into `folder` and return the path of the file; one that is there and is the same is not fetched.

    The file is checked against the SHA-256 in the table, else against the hub's. What an interrupted download left is
    used if the installed huggingface_hub can. `progress` is called from a thread of its own, in the caller's context,
    and at the end from the caller's. Raises MotionError, with the direct link, for everything that goes wrong.
    """
    target = folder.absolute() / model.filename
    with _alone(target):
        try:
            if model.sha256 is None or not _is_there(target, model.sha256, model.size):
                _fetch(model, target, progress)
            size = target.stat().st_size
        except Exception as error:  # below huggingface_hub lie three HTTP libraries, by version, each with its own
            raise MotionError(
                f"{model.filename} was not downloaded, because {_reason(error)}: "
                f"get {model.url} by hand and put it into {target.parent}"
            ) from error
    if progress is not None:
        progress(size, size)
    return target


def _fetch(model: KnownModel, target: Path, progress: Progress | None) -> None:
    try:
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
        from huggingface_hub.constants import HF_HUB_OFFLINE
    except ImportError as error:
        raise _Refused("the Python package huggingface_hub is missing") from error
    if HF_HUB_OFFLINE:
        raise _Refused("huggingface_hub is told to stay offline by HF_HUB_OFFLINE")
    head = get_hf_file_metadata(hf_hub_url(repo_id=model.repo, filename=model.file))
    size = head.size or model.size
    sha256 = _expected(model, head.etag)
    if _is_there(target, sha256, size):
        return
    # In the same folder, so that moving is renaming; a library does not look behind a dot.
    part = target.with_name(f".{model.filename}.download")
    part.mkdir(parents=True, exist_ok=True)
    resumable = True
    try:
        _check_room(part, size)
        with _watched(part, size, progress):
            # The very commit that was asked about, so that file and hash are of one time.
            arrived = hf_hub_download(
                repo_id=model.repo, filename=model.file, revision=head.commit_hash, local_dir=str(part)
            )
        resumable = False
        _check(Path(arrived), sha256, size)
        Path(arrived).replace(target)
    finally:
        _tidy(part, resumable)


def _expected(model: KnownModel, etag: str | None) -> str | None:
    """The file's SHA-256, from the table or from the hub: there it is the etag of every large file."""
    told = etag if etag and re.fullmatch("[0-9a-f]{64}", etag) else None
    if model.sha256 and told and model.sha256 != told:
        raise _Refused(f"the hub has another file under this name now (sha256 {told}, not {model.sha256})")
    return model.sha256 or told


def _is_there(target: Path, sha256: str | None, size: int | None) -> bool:
    """Whether `target` is the wanted file, by its hash or else its size. Raises _Refused where it is another one."""
    if not target.exists():
        return False
    alike = _sha256(target) == sha256 if sha256 and target.is_file() else size in (None, target.stat().st_size)
    if not target.is_file() or not alike:
        raise _Refused("another file of that name, or a damaged one, is in the folder; move it away and try again")
    return True


def _check(arrived: Path, sha256: str | None, size: int | None) -> None:
    if sha256 and _sha256(arrived) != sha256:
        raise _Refused(f"what arrived is damaged (its sha256 is not {sha256}); try again")
    found = arrived.stat().st_size
    if not sha256 and size not in (None, found):
        raise _Refused(f"what arrived has {found} bytes instead of {size}; try again")


def _sha256(path: Path) -> str:
    from motion.weights.describe import sha256

    return sha256(path)


def _check_room(part: Path, size: int | None) -> None:
    free = shutil.disk_usage(part).free
    if size is not None and size - _arrived(part) > free:
        raise _Refused(f"it has {size / 1e9:.2f} GB and the disk has room for {free / 1e9:.2f}; make room")


def _arrived(part: Path) -> int:
    """Bytes of the largest file below `part`: beside the growing one the library keeps only notes there."""
    try:
        return max((path.stat().st_size for path in part.rglob("*") if path.is_file()), default=0)
    except OSError:  # it was moved under our eyes
        return 0


def _tidy(part: Path, resumable: bool) -> None:
    """Remove the hidden folder, unless it holds the beginning of a file that can be gone on with."""
    if not (resumable and any(path.stat().st_size for path in part.rglob("*.incomplete"))):
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """One download of a file at a time: the button may be pressed twice."""
    with _running_lock:
        if target in _running:
            raise MotionError(f"{target.name} is being downloaded already: wait for it")
        _running.add(target)
    try:
        yield
    finally:
        _running.discard(target)


@contextmanager
def _watched(part: Path, size: int | None, progress: Progress | None) -> Iterator[None]:
    """Meanwhile tell `progress` how much has arrived: the one way that every version of the library allows."""
    if progress is None:
        yield
        return
    done = Event()

    def watch() -> None:
        while not done.wait(INTERVAL):
            progress(_arrived(part), size)

    # Gradio's progress bars find their page through the context they are called in.
    thread = Thread(target=copy_context().run, args=(watch,), name="motion-download", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _reason(error: Exception) -> str:
    """What went wrong, as the middle of a sentence."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, _Refused):
        return str(error)
    if status in (401, 403):
        return f"the hub wants an account for it or no longer shows it (HTTP {status})"
    if status == 404:
        return "the hub no longer has it (HTTP 404)"
    if status is not None:
        return f"the hub has trouble (HTTP {status}); try again later"
    causes = list(_causes(error))
    if any(isinstance(cause, OSError) and cause.errno in _DISK_FULL for cause in causes):
        return "the disk is full"
    if isinstance(error, OSError) and error.filename is not None:  # none of the network's errors has one
        return f"{error.filename} cannot be used ({error.strerror})"
    told = " ".join(str(causes[-1]).split())[:MOST_TOLD]
    return f"the hub cannot be reached or read{f' ({told})' if told else ''}; check the connection"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
