"""Clips of the sprite world as a folder, for the recipes that learn from one."""

from __future__ import annotations

from pathlib import Path

from motion.demo.clips import training_clip, training_scene
from motion.demo.world import add_watermark
from motion.video.write import write

FPS = 8.0


def write_folder(folder: Path, count: int, watermark: bool = False, look: str = "plain") -> Path:
    """The first ``count`` training clips as ``00000.png`` (APNG) ..., each with its caption beside it; what is there
    already stays. ``watermark``: with the world's mark in a corner."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = folder / f"{number:05}.png"
        path.with_suffix(".txt").write_text(training_scene(number).caption, encoding="utf-8")
        if not path.exists():
            frames = training_clip(number, look)
            write(add_watermark(frames) if watermark else frames, path, FPS)
    return folder
