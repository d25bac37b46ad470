"""Captions for a folder of clips by BLIP (Li et al. 2022, arXiv:2201.12086), from a folder on the disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoTokenizer, BlipForConditionalGeneration

from motion.errors import MotionError
from motion.hosts.standalone.formats.folder import no_progress_bars
from motion.hosts.standalone.networks.image_prompt import MEAN, SPREAD
from motion.training.folder import Source, find
from motion.video.pictures import Frame
from motion.video.read import open_clip

REMEDY = "give the folder of a BLIP captioning model, with its config.json, weights and vocabulary"
LONGEST = 30
"""Tokens of a caption."""


@torch.no_grad()
def write_captions(data: Path, model: Path, device: str) -> list[str]:
    """Write `NAME.txt` beside each clip in `data` that has no caption, of what its middle frame shows; their names.

    Raises MotionError for a folder without clips, and for one that is no BLIP model.
    """
    sources = [source for source in find(data) if not source.caption]
    network, tokenizer = _open(model)
    network.to(device)
    side, written = network.config.vision_config.image_size, []
    for source in sources:
        shown = _pixels(_middle(source), side)[None].to(device)
        (tokens,) = network.generate(pixel_values=shown, max_new_tokens=LONGEST)
        caption = " ".join(tokenizer.decode(tokens, skip_special_tokens=True).split())
        source.path.with_name(f"{source.name}.txt").write_text(f"{caption}\n", encoding="utf-8")
        written.append(source.name)
    return written


def _open(folder: Path) -> tuple[Any, Any]:
    if not (folder / "config.json").is_file():
        raise MotionError(f"{folder} is no folder of a model: {REMEDY}")
    if not any((folder / name).is_file() for name in ("vocab.txt", "tokenizer.json")):
        raise MotionError(f"{folder} has no vocabulary: {REMEDY}")
    try:
        with no_progress_bars():
            network = BlipForConditionalGeneration.from_pretrained(folder, local_files_only=True)
            return network.eval(), AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise MotionError(f"{folder} cannot be read as a BLIP model: {REMEDY}") from error


def _middle(source: Source) -> Frame:
    """The frame in the middle of a clip, which is walked twice and never held."""
    clip = open_clip(source.path)
    count = sum(1 for _ in clip.frames())
    found: Iterator[Frame] = clip.frames(count // 2)
    return next(found)


def _pixels(frame: Frame, side: int) -> torch.Tensor:
    """A frame as BLIP is shown it, `[3, side, side]`."""
    picture = Image.fromarray(frame).resize((side, side), Image.Resampling.BICUBIC)
    shades = (np.asarray(picture, np.float32) / 255 - MEAN) / SPREAD
    return torch.from_numpy(shades).float().movedim(-1, 0)
