"""Captions for a folder of clips by BLIP (Li et al. 2022, arXiv:2201.12086), from a folder on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoTokenizer, BlipForConditionalGeneration

from motion.errors import MotionError
from motion.hosts.standalone.formats.folder import no_progress_bars
from motion.hosts.standalone.networks.image_prompt import MEAN, SPREAD
from motion.video.captions import write_missing
from motion.video.pictures import Frame

REMEDY = "give the folder of a BLIP captioning model, with its config.json, weights and vocabulary"
LONGEST = 30
"""Tokens of a caption."""


@torch.no_grad()
def write_captions(data: Path, model: Path, device: str) -> list[str]:
    """Write `NAME.txt` beside each clip in `data` that has no caption, of what its middle frame shows; their names.

    Raises MotionError for a folder without clips, and for one that is no BLIP model.
    """
    network, tokenizer = _open(model)
    network.to(device)
    side = network.config.vision_config.image_size

    def describe(frame: Frame) -> str:
        (tokens,) = network.generate(pixel_values=_pixels(frame, side)[None].to(device), max_new_tokens=LONGEST)
        words: str = tokenizer.decode(tokens, skip_special_tokens=True)
        return words

    return write_missing(data, describe)


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


def _pixels(frame: Frame, side: int) -> torch.Tensor:
    """A frame as BLIP is shown it, `[3, side, side]`."""
    picture = Image.fromarray(frame).resize((side, side), Image.Resampling.BICUBIC)
    shades = (np.asarray(picture, np.float32) / 255 - MEAN) / SPREAD
    return torch.from_numpy(shades).float().movedim(-1, 0)
