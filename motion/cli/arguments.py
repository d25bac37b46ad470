"""What the recipes' commands have in common: the options of each, and how their values are read and answers printed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from motion.demo.world import LOOKS
from motion.errors import MotionError


def recipe(recipes: Any, name: str, text: str, run: Any = None) -> argparse.ArgumentParser:
    """Add a recipe, which has a folder of its own; ``run`` is called with the parsed arguments."""
    parser: argparse.ArgumentParser = recipes.add_parser(name, help=text)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; an unfinished run in it goes on")
    parser.add_argument("--steps", type=count, help="steps of the last stage, instead of the recipe's own")
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps or auto")
    parser.set_defaults(run=run)
    return parser


def add_look(parser: argparse.ArgumentParser, text: str) -> None:
    """Add ``--look``, one of the sprite world's."""
    parser.add_argument("--look", choices=LOOKS, default=LOOKS[0], help=f"{text} (default: %(default)s)")


def count(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def share(text: str) -> float:
    """A number between 0 and 1."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1")
    return number


def device(arguments: argparse.Namespace) -> str:
    """The device by name; on several GPUs "cuda" is this process's own from here on."""
    from motion.hosts.standalone import processes
    from motion.hosts.standalone.device import device_of

    name = str(device_of(arguments.device))
    processes.team(name)
    return name


def existing(path: Path) -> Path:
    """The path; MotionError if nothing is there."""
    if not path.exists():
        raise MotionError(f"{path} does not exist; check the name")
    return path


def tell(text: object) -> None:
    """Print an answer, once for all processes of a run."""
    from accelerate import PartialState

    if PartialState().is_main_process:
        sys.stdout.write(f"{text}\n")
