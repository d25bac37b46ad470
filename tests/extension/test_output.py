"""A host that makes videos itself (Neo): our clips lie, look and play as its own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from motion.extension import output
from motion.extension.output import Written
from motion.hosts.webui import base
from motion.hosts.webui.job import FinishedClip

CLIP = FinishedClip([object()], ["text"])


@pytest.fixture
def opts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The settings of a host without videos."""
    settings = SimpleNamespace(
        save_to_dirs=True, directories_filename_pattern="[date]", samples_filename_pattern="[seed]",
        save_images_add_number=False,
    )  # fmt: skip
    images = SimpleNamespace(FilenameGenerator=lambda *_: SimpleNamespace(apply=lambda pattern: pattern.strip("[]")))
    modules = {"shared": SimpleNamespace(opts=settings), "images": images}
    for module in (base, output):
        monkeypatch.setattr(module, "host_module", modules.__getitem__)
    return settings


def test_clips_lie_where_the_host_keeps_its_videos(opts: Any, tmp_path: Path) -> None:
    p = SimpleNamespace(outpath_samples=str(tmp_path / "pictures"), prompt="a cat")
    assert output._place(p, CLIP, 1, ["mp4"]) == tmp_path / "pictures" / "date" / "seed"
    opts.outdir_videos, opts.outdir_samples = str(tmp_path / "videos"), ""
    assert output._place(p, CLIP, 1, ["mp4"]) == tmp_path / "videos" / "seed"
    opts.outdir_samples = str(tmp_path / "all")
    assert output._place(p, CLIP, 1, ["mp4"]) == tmp_path / "all" / "seed"


def test_its_settings_for_videos_count(opts: Any) -> None:
    assert output._h264() == {}
    opts.video_crf, opts.video_preset = 30, "fast"
    assert output._h264() == {"crf": "30", "preset": "fast"}


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
