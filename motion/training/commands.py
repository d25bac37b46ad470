"""``python -m motion train ...``: the recipes on the command line."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motion.demo.world import LOOKS
from motion.errors import MotionError

if TYPE_CHECKING:  # at run time torch comes after the arguments are checked
    from motion.training.loop import Plan
    from motion.training.run import Run


def add_arguments(subparsers: Any) -> None:
    """Add ``train`` and its recipes; each sets ``run``, a function of the parsed arguments."""
    train = subparsers.add_parser("train", help="train adapters, motion modules and motion LoRAs")
    recipes = train.add_subparsers(dest="recipe", required=True, metavar="RECIPE")

    image = _recipe(recipes, "image", "autoencoder, text encoder and UNet from stills", _image)
    image.add_argument("--base", type=Path, help="tune this checkpoint to --look instead of beginning from nothing")
    image.add_argument(
        "--look", choices=LOOKS, default=LOOKS[0], help="how the shapes are drawn (default: %(default)s)"
    )
    motion = _recipe(
        recipes, "motion", "a motion module on a frozen checkpoint, of --data or the sprite world", _motion
    )
    _add_data(motion)
    motion.add_argument("--motion", type=Path, help="go on from this motion module instead of from nothing")
    motion.add_argument("--adapter", type=Path, help="domain adapter that stays on meanwhile")
    adapter = _recipe(recipes, "adapter", "a domain adapter from the frames of clips", _adapter)
    _add_data(adapter, required=True)
    adapter.add_argument("--rank", type=_count, help="of its matrices (default: 128)")
    lora = _recipe(
        recipes, "motion-lora", "a motion LoRA from 20 to 50 clips, or a camera move over stills", _motion_lora
    )
    _add_data(lora, required=True)
    lora.add_argument("--motion", type=Path, required=True, help="the motion module it is for")
    lora.add_argument("--adapter", type=Path, help="domain adapter that stays on meanwhile")
    lora.add_argument("--rank", type=_count, help="of its matrices (default: 64)")
    lora.add_argument("--move", help="make clips of this move over what is in --data: pan-left, tilt-up, zoom-in ...")
    sparse = _recipe(
        recipes, "sparsectrl", "a SparseCtrl encoder for key images, of --data or the sprite world", _sparsectrl
    )
    _add_data(sparse)
    sparse.add_argument("--motion", type=Path, required=True, help="the motion module it is for")
    sparse.add_argument("--adapter", type=Path, help="domain adapter that stays on meanwhile")
    _add_condition(sparse)
    _recipe(recipes, "sprites", "all bundled files, one after the other", _sprites)
    _add_evaluate(recipes)


def _add_evaluate(recipes: Any) -> None:
    evaluate = recipes.add_parser("evaluate", help="examine a checkpoint on captions that training never saw")
    evaluate.add_argument("--checkpoint", type=Path, required=True, help="the image model")
    evaluate.add_argument("--motion", type=Path, help="the motion module")
    evaluate.add_argument(
        "--sparsectrl", type=Path, metavar="FILE", help="examine this encoder for the module instead: its key frames"
    )
    evaluate.add_argument("--look", choices=LOOKS, default=LOOKS[0], help="the look to expect (default: %(default)s)")
    evaluate.add_argument("--stills", type=_count, default=200, help="stills to draw (default: %(default)s)")
    evaluate.add_argument("--clips", type=_count, default=100, help="clips to draw (default: %(default)s)")
    evaluate.add_argument("--device", default="auto", help="cpu, cuda, mps or auto")
    evaluate.set_defaults(run=_evaluate)


def _add_data(parser: argparse.ArgumentParser, required: bool = False) -> None:
    parser.add_argument("--checkpoint", type=Path, required=True, help="the SD1.5 checkpoint that is moved")
    parser.add_argument(
        "--data", type=Path, required=required, help="clips or folders of frames; captions in NAME.txt or a .csv"
    )
    parser.add_argument("--trigger", default="", help="words in front of each caption, kept in the file")
    parser.add_argument("--size", default="256x256", help="pixels of a frame (default: %(default)s)")
    parser.add_argument("--frames", type=_count, default=16, help="frames of a clip (default: %(default)s)")
    parser.add_argument("--stride", type=_count, default=4, help="distance of its frames (default: %(default)s)")
    parser.add_argument(
        "--batch", type=_count, default=4, help="clips (adapter: frames) at once (default: %(default)s)"
    )
    parser.add_argument("--accumulate", type=_count, help="batches a step")
    parser.add_argument("--learning-rate", type=_share, help="instead of the recipe's own")
    parser.add_argument("--ema", type=_share, help="decay of averaged weights, 0.999 say (default: no average)")
    parser.add_argument("--seed", type=int, help="of everything random (default: 0)")
    parser.add_argument("--sample-every", type=_count, default=0, help="draw the first caption every N steps")
    precision = parser.add_mutually_exclusive_group()
    precision.set_defaults(precision="fp32")
    for name, text in (("bf16", "compute in bfloat16 where that is safe"), ("fp16", "in float16, on a CUDA GPU")):
        precision.add_argument(f"--{name}", dest="precision", action="store_const", const=name, help=text)
    parser.add_argument("--checkpointing", action="store_true", help="less memory: compute layers twice")


def _add_condition(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--condition", default="rgb", help="made of the frames: rgb, or scribble, their edges (default: %(default)s)"
    )
    parser.add_argument(
        "--conditions", type=Path, metavar="FOLDER", help="instead: an image for each frame, in clips of the same names"
    )
    parser.add_argument(
        "--masks", metavar="NAME:WEIGHT,...", help="frames that are shown: first, first-last, every, prefix, random"
    )
    parser.add_argument(
        "--per-frame", action="store_true", help="without temporal layers: a ControlNet of each frame on its own"
    )
    parser.add_argument("--small", action="store_true", help="less memory: what is copied from the checkpoint stays")


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


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1")
    return share


def _adapter(arguments: argparse.Namespace) -> None:
    from motion.training import recipes

    _tell(recipes.train_adapter(_run(arguments), _plan(arguments, recipes.ADAPTER)))


def _motion_lora(arguments: argparse.Namespace) -> None:
    from motion.training import recipes

    _tell(recipes.train_motion_lora(_run(arguments), _plan(arguments, recipes.MOTION_LORA)))


def _sparsectrl(arguments: argparse.Namespace) -> None:
    from motion.training import masks, sparse, sprites
    from motion.training.conditions import Condition

    mixture = masks.MIXTURE if arguments.masks is None else masks.parse(arguments.masks)
    condition = Condition(arguments.condition, arguments.conditions, mixture, arguments.small, arguments.per_frame)
    if arguments.data is not None:
        _tell(sparse.train_sparsectrl(_run(arguments), condition, _plan(arguments, sparse.SPARSECTRL)))
        return
    if condition.folder is not None:
        raise MotionError(f"--conditions is {condition.folder}: give the clips that its images are for with --data")
    files = _existing(arguments.checkpoint), _existing(arguments.motion)
    out, device, steps = arguments.out, _device(arguments), arguments.steps
    _tell(sprites.train_sprite_sparsectrl(*files, condition, out, device, steps))


def _run(arguments: argparse.Namespace) -> Run:
    from motion.settings import FIELDS
    from motion.training.run import Run

    given = vars(arguments)
    for path in filter(None, (given.get("motion"), given.get("adapter"))):
        _existing(path)
    names = {"data", "out", "frames", "stride", "batch", "rank", "adapter", "trigger", "move"}
    names |= {"checkpointing", "sample_every", "precision"}
    return Run(
        _existing(arguments.checkpoint),
        device=_device(arguments),
        size=FIELDS["size"].parse(arguments.size),
        module=given.get("motion"),
        **{name: given[name] for name in names & given.keys()},
    )


def _plan(arguments: argparse.Namespace, plan: Plan) -> Plan:
    """The recipe's plan with what the arguments change."""
    names = ("steps", "learning_rate", "accumulate", "ema", "seed")
    return replace(plan, **{name: given for name in names if (given := getattr(arguments, name)) is not None})


def _motion(arguments: argparse.Namespace) -> None:
    from motion.training import recipes, sprites

    if arguments.data is not None:
        _tell(recipes.train_motion_module(_run(arguments), _plan(arguments, recipes.MODULE)))
        return
    base = _existing(arguments.checkpoint)
    _tell(sprites.train_sprite_motion(base, arguments.out, _device(arguments), arguments.steps))


def _sprites(arguments: argparse.Namespace) -> None:
    from motion.training import sprites
    from motion.training.conditions import CONDITIONS, Condition

    device = _device(arguments)
    base = sprites.train_base(arguments.out, device, arguments.steps)
    module = sprites.train_sprite_motion(base, arguments.out, device, arguments.steps)
    personal = sprites.train_personal(base, LOOKS[1], arguments.out, device, arguments.steps)
    for file in (base, module, personal):
        _tell(file)
    for made in CONDITIONS:
        condition = Condition(made)
        _tell(sprites.train_sprite_sparsectrl(base, module, condition, arguments.out, device, arguments.steps))


def _evaluate(arguments: argparse.Namespace) -> None:
    from motion.demo.evaluate import Examination
    from motion.demo.evaluate_keys import KeyExamination

    for path in filter(None, (arguments.motion, arguments.sparsectrl)):
        _existing(path)
    checkpoint, device = _existing(arguments.checkpoint), arguments.device
    if arguments.sparsectrl is None:
        examination = Examination(arguments.stills, arguments.clips, arguments.look)
        figures = examination.run(checkpoint, arguments.motion, device)
    elif arguments.motion is None:
        raise MotionError("key frames are examined in moving clips: give the encoder's motion module with --motion")
    else:
        figures = KeyExamination(arguments.clips).run(checkpoint, arguments.motion, arguments.sparsectrl, device)
    _tell(json.dumps(figures, indent=2))


def _device(arguments: argparse.Namespace) -> str:
    """The device by name; on several GPUs "cuda" is this process's own from here on."""
    from motion.hosts.standalone.host import device_of
    from motion.training import processes

    device = str(device_of(arguments.device))
    processes.team(device)
    return device


def _existing(path: Path) -> Path:
    if not path.exists():
        raise MotionError(f"{path} does not exist; check the name")
    return path


def _tell(text: object) -> None:
    from accelerate import PartialState

    if PartialState().is_main_process:
        sys.stdout.write(f"{text}\n")
