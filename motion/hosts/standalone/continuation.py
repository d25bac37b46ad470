"""Continuing a clip in the standalone host, round by round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from motion.hosts.continuation import Continuation
from motion.hosts.controls import Control, Pixels
from motion.hosts.standalone.host import Standalone
from motion.hosts.standalone.networks.networks import Networks
from motion.hosts.standalone.work import Progress, part_of
from motion.settings.settings import Clip


def continue_clip(
    host: Standalone, clip: Clip, networks: Networks, path: Continuation, progress: Progress | None = None
) -> tuple[list[Pixels], Sequence[Control]]:
    """The new frames, uint8 `[height, width, 3]`, and the controls of the last round.

    Each round has a seed of its own, one above the last one's, and is given what the one before has drawn. Encoders
    among `networks.controls` are shown the given frames; without one these are held by themselves. Raises MotionError
    as `Standalone.render`, and for clips that are too short.
    """
    path.check(clip)
    files = [control.file for control in networks.controls] or [None]
    drawn_as = path.settings(clip.with_seed(), files != [None])
    end, rounds = path.end(clip.finished_size), list(path.rounds(clip.frames))
    new: list[Pixels] = []
    controls: Sequence[Control] = ()
    for number, count in enumerate(rounds):
        images = path.images(end, clip.frames, clip.finished_size)
        controls = [Control(file, images) for file in files]
        seeded = replace(drawn_as, seed=drawn_as.seed + number)
        frames = host.render(seeded, replace(networks, controls=controls), part_of(progress, number, len(rounds)))
        new += list(frames[path.given : path.given + count])
        end = list(frames[-path.given :])
    return new, controls
