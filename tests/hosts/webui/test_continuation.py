"""A clip that goes on in a WebUI: what each batch of the host's is given, and which frames of it stay."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from motion.errors import MotionError
from motion.fields.table import Size
from motion.hosts.continuation import Continuation
from motion.hosts.source import Source
from motion.hosts.webui.continuation import Continued
from motion.hosts.webui.finished import gather
from motion.hosts.webui.job import Job
from motion.settings.tab import Tab
from motion.video.write import write

SIZE, FRAMES, HAVE, GIVEN = Size(64, 64), 4, 5, 2


@pytest.fixture
def clip(tmp_path: Path) -> Source:
    """Even frames, each lighter than the one before."""
    write((np.full((64, 64, 3), 10 * number, np.uint8) for number in range(HAVE)), tmp_path / "clip.webp", 8, "")
    return Source(tmp_path / "clip.webp")


def continued(clip: Source, length: int | None) -> Continued:
    return Continued(Continuation(clip, GIVEN, length), FRAMES, SIZE)


def greys(*values: int) -> list[Any]:
    return [torch.full((3, 64, 64), value / 255) for value in values]


def test_each_batch_is_given_the_end_of_the_one_before(clip: Source) -> None:
    """Until the whole is long enough, where the next clip begins with the source again."""
    rounds, shown = continued(clip, 8), []
    keys: Any = SimpleNamespace(
        show=lambda images: shown.append({key: int(each.max()) for key, each in images.items()})
    )
    assert {frame: image.max() for frame, image in rounds.images().items()} == {0: 30, 1: 40}
    rounds.round_ends(1, greys(30, 40, 50, 60), keys)
    rounds.round_ends(2, greys(50, 60, 70, 80), keys)
    assert shown == [{0: 50, 1: 60}, {0: 30, 1: 40}]


@pytest.mark.parametrize(("length", "done", "kept"), [(None, 2, [[2, 3], [6, 7]]), (8, 4, [[2, 3, 6], [10, 11, 14]])])
def test_the_new_frames_of_all_rounds_are_a_clip(clip: Source, length: Any, done: int, kept: list[list[int]]) -> None:
    """Also of what an interrupted job has drawn, and with masks between the frames."""
    job = Job(
        Tab(frames=FRAMES), None, FRAMES, 2, {}, {}, several_prompts=False, continued=continued(clip, length), done=done
    )
    assert job.batches == done
    drawn = range(done * FRAMES)
    clips, others = gather(job, [*drawn, "other"], [str(number) for number in drawn], 1)
    assert [clip.pictures for clip in clips] == kept and others == ["other"]
    assert [clip.texts for clip in clips] == [[str(number) for number in part] for part in kept]
    assert job.length(len(kept[0])) == HAVE + len(kept[0])
    job.done = 1
    masked = [part for number in drawn for part in (number, "mask")]
    (first,), others = gather(job, masked, [str(number) for number in drawn], 2)
    assert (first.pictures, len(others)) == (kept[0][:2], 2 * (done - 1) * FRAMES)


def test_the_file_has_the_clip_and_what_is_new_in_its_size(clip: Source) -> None:
    new = np.full((2, 32, 48, 3), 200, np.uint8)
    whole = list(continued(clip, None).whole(new))
    assert {frame.shape for frame in whole} == {(32, 48, 3)}
    assert [frame.max() for frame in whole] == [0, 10, 20, 30, 40, 200, 200]


def test_it_leads_over_to_another_clip(clip: Source, tmp_path: Path) -> None:
    """Which is given behind the new frames in each of the host's batches, and follows them in the file."""
    lighter = (np.full((64, 64, 3), 200 + 10 * number, np.uint8) for number in range(3))
    write(lighter, tmp_path / "onto.webp", 8, "")
    onto, shown = Source(tmp_path / "onto.webp"), []
    connected = Continued(Continuation(clip, GIVEN, onto=onto), 6, SIZE)
    keys: Any = SimpleNamespace(
        show=lambda images: shown.append({key: int(each.max()) for key, each in images.items()})
    )
    connected.round_ends(1, greys(30, 40, 90, 150, 200, 210), keys)
    assert shown == [{0: 30, 1: 40, 4: 200, 5: 210}]
    assert connected.parts == [range(2, 4)] and connected.have == HAVE + 3
    whole = connected.whole(np.full((2, 64, 64, 3), 100, np.uint8))
    assert [frame.max() for frame in whole] == [0, 10, 20, 30, 40, 100, 100, 200, 210, 220]
    with pytest.raises(MotionError, match="has 3 frames, and 4 are to be given"):
        Continued(Continuation(clip, 4, onto=onto), 9, SIZE).images()


def test_what_cannot_go_on_is_refused(clip: Source) -> None:
    with pytest.raises(MotionError, match="has 5 frames and is to have 5"):
        continued(clip, HAVE)
    with pytest.raises(MotionError, match="has 5 frames, and 8 are to be given"):
        Continued(Continuation(clip), 16, SIZE)
