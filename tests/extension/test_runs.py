"""Scripts of the host that make several jobs: their result has all clips, and a grid of clips is a clip."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from motion.errors import MotionError
from motion.extension import files, places, runs
from motion.extension.files import Files, Written
from motion.hosts.webui import refusals
from motion.hosts.webui.backends import base
from motion.hosts.webui.finished import FinishedClip
from motion.hosts.webui.refusals import Refused
from motion.settings.tab import Tab
from motion.video.read import read

SIZE = 8


class Processed:
    def __init__(self, images: list[Any]) -> None:
        self.images, self.infotexts, self.seed, self.comments = images, ["text"] * len(images), 5, ""

    def js(self) -> str:
        return json.dumps({"images": len(self.images)})


def side_by_side(pictures: Sequence[Any], rows: int = 1) -> Any:
    grid = Image.new("RGB", (sum(picture.width for picture in pictures), SIZE))
    for number, picture in enumerate(pictures):
        grid.paste(picture, (SIZE * number, 0))
    return grid


def with_legend(picture: Any, text: str) -> Any:
    image = Image.new("RGB", (picture.width, picture.height + SIZE), "white")
    image.paste(picture, (0, SIZE))
    return image


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Any:
    images = SimpleNamespace(image_grid=side_by_side, draw_grid_annotations=with_legend)
    modules: dict[str, Any] = {
        "images": images,
        "shared": SimpleNamespace(opts=SimpleNamespace(), demo=None),
        "progress": SimpleNamespace(current_task="task(1)"),
    }
    for module in (base, files, places, refusals, runs):
        monkeypatch.setattr(module, "host_module", modules.__getitem__)
    monkeypatch.setattr(Refused, "_told", {})
    return images


def processing(script: Any) -> Any:
    comments: dict[str, int] = {}
    return SimpleNamespace(
        scripts=SimpleNamespace(selectable_scripts=[None, script]), script_args=[2], is_api=True, comments=comments,
        comment=lambda text: comments.update({text: 1}),
    )  # fmt: skip


def cell(p: Any, clip: list[int], fps: float) -> Processed:
    """A job of the script: a clip whose frames are as light as said, and its cover."""
    pictures = [Image.new("RGB", (SIZE, SIZE), (value, value, value)) for value in clip]
    run, job, own = runs.of(p), SimpleNamespace(tab=Tab(formats=("apng",), fps=fps)), Files(p)
    processed = Processed([pictures[0].copy(), *pictures])
    own.write(None, ["apng"], Written("", None, None, len(clip), fps, clip[0]), lambda: map(np.asarray, pictures), "")
    own.list_in(processed, processed.js)
    assert run is not None
    run.gather(job, [FinishedClip(pictures, ["text"])], processed.images[:1], own)  # type: ignore[arg-type]
    return processed


def plot(host: Any, *cells: Callable[[Any], Processed]) -> Callable[[Any], Processed]:
    """As X/Y/Z plot does it: what raises leaves its cell empty, and the result is a copy of the first one's."""

    def run(p: Any) -> Processed:
        done = []
        for draw in cells:
            try:
                done.append(draw(copy.copy(p)))
            except MotionError:
                done.append(Processed([Image.new("RGB", (SIZE, SIZE))]))
        result = copy.copy(done[0])
        grid = host.image_grid([one.images[0] for one in done], rows=1)
        result.images = [host.draw_grid_annotations(host.image_grid([grid]), "steps"), done[0].images[0]]
        return result

    return run


def drawn(p: Any, script: Any) -> Any:
    before = dict(vars(script))
    runs.watch(p)
    processed = script.run(p)
    assert vars(script) == before
    return processed


def test_all_clips_are_listed_and_their_grid_is_one(host: Any, tmp_path: Path) -> None:
    """Frame by frame at the finest rate; the shorter clip stays at its last frame."""
    functions = dict(vars(host))
    fast, slow = (lambda p: cell(p, [10, 20, 30, 40], 8)), (lambda p: cell(p, [100, 200, 250], 4))
    script = SimpleNamespace(run=plot(host, fast, slow))
    p = processing(script)
    processed = drawn(p, script)
    info = json.loads(processed.js())
    assert info["images"] == 2 and info["problems"] == [] and vars(host) == functions
    assert [(clip["seed"], clip["grid"], clip["frames"], clip["fps"]) for clip in info["clips"]] == [
        (10, False, 4, 8), (100, False, 3, 4), (5, True, 6, 8)
    ]  # fmt: skip
    path = tmp_path / "grid.apng"
    path.write_bytes(base64.b64decode(info["clips"][-1]["base64"]))
    grid = read(path).frames
    assert grid.shape == (6, 2 * SIZE, 2 * SIZE, 3) and (grid[:, 0] == 255).all()
    assert grid[:, -1, 0, 0].tolist() == [10, 20, 30, 40, 40, 40]
    assert grid[:, -1, -1, 0].tolist() == [100, 100, 200, 200, 250, 250]


def refused(p: Any) -> Processed:
    raise Refused(MotionError("the module is not there"))


def test_what_is_refused_in_a_cell_is_said(host: Any) -> None:
    script = SimpleNamespace(run=plot(host, lambda p: cell(p, [10, 20], 8), refused))
    info = json.loads(drawn(processing(script), script).js())
    assert [clip["grid"] for clip in info["clips"]] == [False] and info["problems"] == ["the module is not there"]
    script.run = plot(host, refused, refused)
    with pytest.raises(Refused, match="the module is not there"):
        drawn(processing(script), script)


def test_jobs_that_are_not_watched_are_the_scripts_affair(host: Any) -> None:
    script = SimpleNamespace(run=lambda p: "stills")
    left, p = processing(script), processing(script)
    runs.watch(left)  # and then something failed
    assert script.run(p) == "stills"
    assert not isinstance(script.run, runs.Run)
    p.script_args = [0]
    runs.watch(p)
    assert runs.of(p) is None
