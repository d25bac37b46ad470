"""What a job leaves: where its clips lie, what is beside them, and what is told of those that could not be written."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from motion.extension import files, output, places
from motion.extension.files import Written
from motion.hosts.webui.backends import base
from motion.hosts.webui.finished import FinishedClip
from motion.hosts.webui.job import Job
from motion.hosts.webui.refusals import HostError
from motion.settings.tab import Tab
from motion.video.write import write

CLIP = FinishedClip([object()], ["text"])


@pytest.fixture
def opts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The settings of a host without videos."""
    settings = SimpleNamespace(
        save_to_dirs=True, directories_filename_pattern="[date]", samples_filename_pattern="[seed]",
        save_images_add_number=False,
    )  # fmt: skip
    images = SimpleNamespace(FilenameGenerator=lambda *_: SimpleNamespace(apply=lambda pattern: pattern.strip("[]")))
    modules = {"shared": SimpleNamespace(opts=settings, demo=None), "images": images}
    for module in (base, files, places):
        monkeypatch.setattr(module, "host_module", modules.__getitem__)
    return settings


def processing(folder: Path, **attributes: Any) -> Any:
    """What is looked at of the host's processing object when a clip is written."""
    comments: list[str] = []
    return SimpleNamespace(
        outpath_samples=str(folder), prompt="a cat", width=64, height=64, batch_size=1, iteration=0, batch_index=0,
        is_api=True, save_samples=lambda: True, comments=comments, comment=comments.append, extra_generation_params={},
        **attributes,
    )  # fmt: skip


def delivered(p: Any, formats: tuple[str, ...], clips: int = 1) -> Any:
    """The host's result, whose pictures are a clip's."""
    picture = Image.new("RGB", (8, 8), "red")
    job = Job(Tab(formats=formats, frames=2), None, 2, clips, {}, {}, several_prompts=False)
    processed = SimpleNamespace(js=lambda: "{}", all_seeds=[5 + clip for clip in range(clips) for _ in range(2)])
    output.deliver(p, processed, job, [FinishedClip([picture, picture], ["text", "text"])] * clips)
    processed.info = json.loads(processed.js())
    return processed


def test_clips_lie_where_the_host_keeps_its_videos(opts: Any, tmp_path: Path) -> None:
    p = processing(tmp_path / "pictures")
    assert places.place(p, None, 1, 0, ["mp4"]) == tmp_path / "pictures" / "date" / "seed"
    opts.outdir_videos, opts.outdir_samples = str(tmp_path / "videos"), ""
    assert places.place(p, None, 1, 0, ["mp4"]) == tmp_path / "videos" / "seed"
    opts.outdir_samples = str(tmp_path / "all")
    assert places.place(p, None, 1, 0, ["mp4"]) == tmp_path / "all" / "seed"


def test_names_count_the_clips_as_the_host_counts_pictures(
    opts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    p = processing(tmp_path, n_iter=2)
    p.batch_size = 2
    names = SimpleNamespace(apply=lambda pattern: f"{p.iteration * p.batch_size + p.batch_index + 1}")
    monkeypatch.setattr(places.host_module("images"), "FilenameGenerator", lambda *_: names)
    opts.save_to_dirs = False
    assert [places.place(p, None, 1, number, ["gif"]).name for number in range(4)] == ["1", "2", "3", "4"]
    assert (p.iteration, p.batch_index) == (0, 0)


def test_what_cannot_be_written_leaves_the_rest(opts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(frames: Any, path: Path, *others: Any) -> None:
        if path.suffix == ".gif":
            raise OSError("no space left")
        write(frames, path, *others)

    monkeypatch.setattr(files, "write", fails)
    p = processing(tmp_path)
    processed = delivered(p, ("gif", "webp"))
    assert [file["format"] for file in processed.info["clips"]] == ["webp"] and len(processed.images) == 3
    assert processed.info["problems"] == ["the gif of seed 5 could not be written: no space left"]
    assert f"Motion: {processed.info['problems'][0]}\n" in processed.comments
    p.outpath_samples = str(tmp_path / "file" / "folder")
    (tmp_path / "file").write_text("")
    processed = delivered(p, ("webp",))
    assert (processed.info["clips"], len(processed.images), len(processed.info["problems"])) == ([], 3, 1)


def test_the_text_beside_a_clip_and_its_seed(opts: Any, tmp_path: Path) -> None:
    p = processing(tmp_path)
    p.extra_generation_params["Seed"] = [5, 5, 6, 6]
    opts.save_txt = True
    processed = delivered(p, ("gif",), clips=2)
    for file in processed.info["clips"]:
        assert Path(file["path"]).with_suffix(".txt").read_text() == "text\n"
    assert p.extra_generation_params["Seed"] == [5, 6]
    delivered(p, ("gif",))
    assert p.extra_generation_params["Seed"] == 5


def test_a_folder_is_tried_before_anything_is_drawn(opts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    p = processing(tmp_path / "new")
    places.check(p, 16)
    assert list((tmp_path / "new").iterdir()) == []
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(HostError, match="has 0 MB left") as full:
        places.check(p, 16)
    p.outpath_samples = str(tmp_path / "file" / "folder")
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match=r"cannot be written to .*folder \(Not a directory\)") as other:
        places.check(p, 16)
    assert (full.value.status, other.value.status) == (507, 500)


def test_its_settings_for_videos_count(opts: Any) -> None:
    assert files._h264() == {}
    opts.video_crf, opts.video_preset = 30, "fast"
    assert files._h264() == {"crf": "30", "preset": "fast"}


def test_its_player_plays_the_one_clip() -> None:
    def played(clips: int, *formats: str) -> Any:
        processed = SimpleNamespace(video_path=None)
        output._play(processed, [CLIP] * clips, [Written(name, Path(f"a.{name}"), None, 4, 8, 1) for name in formats])
        return processed.video_path

    assert played(1, "gif", "mp4", "webm") == "a.mp4"
    assert played(1, "gif") is None
    assert played(2, "mp4", "mp4") is None, "it would show one of them, and no picture"
    without = SimpleNamespace()
    output._play(without, [CLIP], [Written("mp4", Path("a.mp4"), None, 4, 8, 1)])
    assert not vars(without)


def test_the_pages_gallery_leaves_out_what_would_keep_it_busy() -> None:
    """All up to 64 frames, then some with a note; as chosen; and the API has them all."""

    def show(frames: int, choice: str = "auto", is_api: bool = False) -> tuple[int, list[str]]:
        comments: list[str] = []
        p = SimpleNamespace(is_api=is_api, comment=comments.append)
        clip = FinishedClip(list(range(frames)), [str(number) for number in range(frames)])
        found = output._for_gallery(p, SimpleNamespace(tab=Tab(gallery=choice)), clip)  # type: ignore[arg-type]
        assert list(map(str, found.pictures)) == list(found.texts)
        return len(found.pictures), comments

    assert show(64) == (64, [])
    assert show(300)[0] == 60 and "one in 5" in show(300)[1][0]
    assert show(300, "all") == (300, [])
    assert show(300, "8") == (38, [])
    assert show(300, "none") == (0, [])
    assert show(300, is_api=True) == (300, [])
