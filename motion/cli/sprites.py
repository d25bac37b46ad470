"""``python -m motion train sprites | sprite-clips | evaluate``: the sprite world on the command line."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from motion.cli.arguments import add_look, count, device, existing, recipe, tell
from motion.demo.world import LOOKS
from motion.errors import MotionError
from motion.weights.bundled import DEMO

CLIPS = 50


def add_arguments(recipes: Any) -> None:
    """Add the commands; each sets ``run``, a function of the parsed arguments."""
    recipe(recipes, "sprites", "all bundled files, one after the other", _sprites)
    clips = recipes.add_parser("sprite-clips", help="write clips of the sprite world into a folder, to train on")
    clips.add_argument("--out", type=Path, required=True, help="the folder")
    clips.add_argument("--clips", type=count, default=CLIPS, help="how many (default: %(default)s)")
    clips.add_argument("--watermark", action="store_true", help="with the same mark in a corner of all")
    add_look(clips, "how the shapes are drawn")
    clips.set_defaults(run=_clips)
    _add_evaluate(recipes)


def _add_evaluate(recipes: Any) -> None:
    evaluate = recipes.add_parser("evaluate", help="examine a checkpoint on captions that training never saw")
    evaluate.add_argument("--checkpoint", type=Path, required=True, help="the image model")
    evaluate.add_argument("--motion", type=Path, help="the motion module")
    evaluate.add_argument("--adapter", type=Path, help="domain adapter that is on")
    evaluate.add_argument(
        "--sparsectrl", type=Path, metavar="FILE", help="examine this encoder for the module instead: its key frames"
    )
    evaluate.add_argument("--motion-lora", type=Path, metavar="FILE", help="examine this LoRA of --move instead")
    evaluate.add_argument("--move", default="", help="the camera move that it was trained on")
    add_look(evaluate, "the look to expect")
    evaluate.add_argument("--stills", type=count, default=200, help="stills to draw (default: %(default)s)")
    evaluate.add_argument("--clips", type=count, default=100, help="clips to draw (default: %(default)s)")
    steps = int(DEMO["steps"])
    evaluate.add_argument("--steps", type=count, default=steps, help="steps of sampling (default: %(default)s)")
    evaluate.add_argument("--device", default="auto", help="cpu, cuda, mps or auto")
    evaluate.set_defaults(run=_evaluate)


def _sprites(arguments: argparse.Namespace) -> None:
    from motion.demo import parts as sprite_parts
    from motion.demo import recipes as sprites
    from motion.training.conditions import CONDITIONS, Condition

    run = arguments.out, device(arguments), arguments.steps
    base = sprites.train_base(*run)
    module = sprites.train_sprite_motion(base, *run)
    for file in (base, module, sprites.train_personal(base, LOOKS[1], *run)):
        tell(file)
    for condition in CONDITIONS:
        tell(sprite_parts.train_sprite_sparsectrl(base, module, Condition(condition), *run))
    tell(sprite_parts.train_sprite_adapter(base, *run))
    for move in sprite_parts.CAMERA:
        tell(sprite_parts.train_sprite_lora(base, module, move, *run))


def _clips(arguments: argparse.Namespace) -> None:
    from motion.demo.folder import write_folder

    tell(write_folder(arguments.out, arguments.clips, arguments.watermark, arguments.look))


def _evaluate(arguments: argparse.Namespace) -> None:
    from motion.demo.evaluate import Examination
    from motion.demo.evaluate_keys import KeyExamination
    from motion.demo.evaluate_moves import MoveExamination

    for path in filter(None, (arguments.motion, arguments.adapter, arguments.sparsectrl, arguments.motion_lora)):
        existing(path)
    checkpoint, module, on = existing(arguments.checkpoint), arguments.motion, arguments.device
    steps = arguments.steps
    if arguments.sparsectrl is None and arguments.motion_lora is None:
        examination = Examination(arguments.stills, arguments.clips, arguments.look, steps=steps)
        figures = examination.run(checkpoint, module, on, arguments.adapter)
    elif module is None:
        raise MotionError("what belongs to a motion module is examined in moving clips: give the module with --motion")
    elif arguments.sparsectrl is not None:
        figures = KeyExamination(arguments.clips, steps=steps).run(checkpoint, module, arguments.sparsectrl, on)
    else:
        examined = MoveExamination(arguments.clips, steps=steps)
        figures = examined.run(checkpoint, module, {arguments.move: arguments.motion_lora}, on)[arguments.move]
    tell(json.dumps(figures, indent=2))
