"""The clips of a job that is done, among the pictures that the host has made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from motion.hosts.webui.job import Job


@dataclass(frozen=True)
class FinishedClip:
    """One finished clip: its frames as the host's pictures, and their texts, in the order they are played."""

    pictures: Sequence[Any]
    texts: Sequence[str]


def gather(job: Job, pictures: Sequence[Any], texts: Sequence[str], each: int) -> tuple[list[FinishedClip], list[Any]]:
    """The clips among the host's pictures, and what other extensions have put behind them.

    The host made `each` pictures per frame (masks follow their frame) of the batches that are done, and at least one
    text.
    """
    size = job.tab.frames
    done = range(job.done)
    clips = []
    for first in done[:: len(job.parts)]:
        batches = zip(done[first:], job.parts, strict=False)
        kept = [batch * size + frame for batch, part in batches for frame in part]
        clips.append(FinishedClip([pictures[at * each] for at in kept], [texts[at] for at in kept]))
    return clips, list(pictures[job.done * size * each :])
