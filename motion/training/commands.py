"""``python -m motion train ...``: the recipes on the command line."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from motion.demo.world import LOOKS
from motion.errors import MotionError


def add_arguments(subparsers: Any) -> None:
    """Add ``train`` and its recipes; each sets ``run``, a function of the parsed arguments."""
    train = subparsers.add_parser("train", help="train and examine the models of the sprite world")
    recipes = train.add_subparsers(dest="recipe", required=True, metavar="RECIPE")

    image = _recipe(recipes, "image", "autoencoder, text encoder and UNet from stills", _image)
    image.add_argument("--base", type=Path, help="tune this checkpoint to --look instead of beginning from nothing")
    image.add_argument(
        "--look", choices=LOOKS, default=LOOKS[0], help="how the shapes are drawn (default: %(default)s)"
    )
    motion = _recipe(recipes, "motion", "a motion module on a frozen checkpoint", _motion)
    motion.add_argument("--checkpoint", type=Path, required=True, help="the image model to move")
    _recipe(recipes, "sprites", "all bundled files, one after the other", _sprites)

    evaluate = recipes.add_parser("evaluate", help="examine a checkpoint on captions that training never saw")
    evaluate.add_argument("--checkpoint", type=Path, required=True, help="the image model")
    evaluate.add_argument("--motion", type=Path, help="the motion module")
    evaluate.add_argument("--look", choices=LOOKS, default=LOOKS[0], help="the look to expect (default: %(default)s)")
    evaluate.add_argument("--stills", type=_count, default=200, help="stills to draw (default: %(default)s)")
    evaluate.add_argument("--clips", type=_count, default=100, help="clips to draw (default: %(default)s)")
    evaluate.add_argument("--device", default="auto", help="cpu, cuda, mps or auto")
    evaluate.set_defaults(run=_evaluate)


def _recipe(recipes: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = recipes.add_parser(name, help=text)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; an unfinished run in it goes on")
    parser.add_argument("--steps", type=_count, help="steps of the last stage, instead of the recipe's own")
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps or auto")
    parser.set_defaults(run=run)
    return parser


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _image(arguments: argparse.Namespace) -> None:
    from motion.training import sprites

    device = _device(arguments)
    if arguments.base is not None:
        _tell(sprites.train_personal(_existing(arguments.base), arguments.look, arguments.out, device, arguments.steps))
    elif arguments.look != LOOKS[0]:
        raise MotionError(f"--look {arguments.look} needs a checkpoint to begin from; give it as --base")
    else:
        _tell(sprites.train_base(arguments.out, device, arguments.steps))


def _motion(arguments: argparse.Namespace) -> None:
    from motion.training import sprites

    base = _existing(arguments.checkpoint)
    _tell(sprites.train_sprite_motion(base, arguments.out, _device(arguments), arguments.steps))


def _sprites(arguments: argparse.Namespace) -> None:
    from motion.training import sprites

    device = _device(arguments)
    base = sprites.train_base(arguments.out, device, arguments.steps)
    for file in (
        base,
        sprites.train_sprite_motion(base, arguments.out, device, arguments.steps),
        sprites.train_personal(base, LOOKS[1], arguments.out, device, arguments.steps),
    ):
        _tell(file)


def _evaluate(arguments: argparse.Namespace) -> None:
    from motion.demo.evaluate import Examination

    examination = Examination(arguments.stills, arguments.clips, arguments.look)
    figures = examination.run(_existing(arguments.checkpoint), arguments.motion, arguments.device)
    _tell(json.dumps(figures, indent=2))


def _device(arguments: argparse.Namespace) -> str:
    from motion.hosts.standalone.host import device_of

    return str(device_of(arguments.device))


def _existing(path: Path) -> Path:
    if not path.exists():
        raise MotionError(f"{path} does not exist; give a checkpoint file")
    return path


def _tell(text: object) -> None:
    sys.stdout.write(f"{text}\n")
