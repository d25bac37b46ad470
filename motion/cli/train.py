"""``python -m motion train ...``: the recipes on the command line."""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motion.cli import sprites as sprite_commands
from motion.cli.arguments import add_look, count, device, existing, recipe, share, tell
from motion.demo.world import LOOKS
from motion.errors import MotionError

OF_DATA = (
    *("trigger", "size", "frames", "stride", "batch", "accumulate", "learning_rate", "ema", "seed", "sample_every"),
    *("precision", "checkpointing", "debias"),
)
"""Options that only clips of one's own have."""

if TYPE_CHECKING:  # at run time torch comes after the arguments are checked
    from motion.training.loop import Plan
    from motion.training.run import Run


def add_arguments(subparsers: Any) -> None:
    """Add ``train`` and its recipes; each sets ``run``, a function of the parsed arguments."""
    train = subparsers.add_parser("train", help="train adapters, motion modules and motion LoRAs")
    recipes = train.add_subparsers(dest="recipe", required=True, metavar="RECIPE")

    image = recipe(recipes, "image", "autoencoder, text encoder and UNet from stills", _image)
    image.add_argument("--base", type=Path, help="tune this checkpoint to --look instead of beginning from nothing")
    add_look(image, "how the shapes are drawn")
    motion = recipe(recipes, "motion", "a motion module on a frozen checkpoint, of --data or the sprite world", _motion)
    _add_data(motion)
    motion.add_argument("--motion", type=Path, help="go on from this motion module instead of from nothing")
    motion.add_argument("--adapter", type=Path, help="domain adapter that stays on meanwhile")
    motion.set_defaults(run=partial(_motion, parser=motion))
    adapter = recipe(recipes, "adapter", "a domain adapter from the frames of clips", _adapter)
    _add_data(adapter, required=True)
    adapter.add_argument("--rank", type=count, help="of its matrices (default: 128)")
    lora = recipe(
        recipes, "motion-lora", "a motion LoRA from 20 to 50 clips, or a camera move over stills", _motion_lora
    )
    _add_data(lora, required=True)
    lora.add_argument("--motion", type=Path, required=True, help="the motion module it is for")
    lora.add_argument("--adapter", type=Path, help="domain adapter that stays on meanwhile")
    lora.add_argument("--rank", type=count, help="of its matrices (default: 64)")
    lora.add_argument("--move", help="make clips of this move over what is in --data: pan-left, tilt-up, zoom-in ...")
    sparse = recipe(recipes, "sparsectrl", "a SparseCtrl encoder for key images, of --data or the sprite world")
    _add_data(sparse)
    sparse.add_argument("--motion", type=Path, required=True, help="the motion module it is for")
    sparse.add_argument("--adapter", type=Path, help="domain adapter that stays on meanwhile")
    _add_condition(sparse)
    sparse.set_defaults(run=partial(_sparsectrl, parser=sparse))
    one_shot = recipe(recipes, "one-shot", "one clip's motion, by Tune-A-Video", _one_shot)
    _add_data(one_shot, required=True)
    one_shot.add_argument("--prompt", required=True, help="what the clip shows")
    one_shot.set_defaults(batch=1, frames=24, stride=2)
    caption = recipes.add_parser("caption", help="write what each clip in --data shows into NAME.txt, by BLIP")
    caption.add_argument("--data", type=Path, required=True, help="clips or folders of frames; captions there stay")
    caption.add_argument("--model", type=Path, required=True, metavar="DIR", help="folder of a BLIP captioning model")
    caption.add_argument("--device", default="auto", help="cpu, cuda, mps or auto")
    caption.set_defaults(run=_caption)
    sprite_commands.add_arguments(recipes)


def _add_data(parser: argparse.ArgumentParser, required: bool = False) -> None:
    parser.add_argument("--checkpoint", type=Path, required=True, help="the SD1.5 checkpoint that is moved")
    parser.add_argument(
        "--data", type=Path, required=required, help="clips or folders of frames; captions in NAME.txt or a .csv"
    )
    parser.add_argument("--trigger", default="", help="words in front of each caption, kept in the file")
    parser.add_argument("--size", default="256x256", help="pixels of a frame (default: %(default)s)")
    parser.add_argument("--frames", type=count, default=16, help="frames of a clip (default: %(default)s)")
    parser.add_argument("--stride", type=count, default=4, help="distance of its frames (default: %(default)s)")
    parser.add_argument("--batch", type=count, default=4, help="clips (adapter: frames) at once (default: %(default)s)")
    parser.add_argument("--accumulate", type=count, help="batches a step")
    parser.add_argument("--learning-rate", type=share, help="instead of the recipe's own")
    parser.add_argument("--ema", type=share, help="decay of averaged weights, 0.999 say (default: no average)")
    parser.add_argument("--seed", type=int, help="of everything random (default: 0)")
    parser.add_argument("--sample-every", type=count, default=0, help="draw the first caption every N steps")
    precision = parser.add_mutually_exclusive_group()
    precision.set_defaults(precision="fp32")
    for name, text in (("bf16", "compute in bfloat16 where that is safe"), ("fp16", "in float16, on a CUDA GPU")):
        precision.add_argument(f"--{name}", dest="precision", action="store_const", const=name, help=text)
    parser.add_argument("--checkpointing", action="store_true", help="less memory: compute layers twice")
    parser.add_argument(
        "--debias", action="store_true", help="more of the noisiest steps, where it is settled what moves where"
    )


def _refuse_without_data(arguments: argparse.Namespace, parser: argparse.ArgumentParser, *more: str) -> None:
    """Raise MotionError for an option that the sprite world's own recipe would not heed."""
    for name in (*OF_DATA, *more):
        if getattr(arguments, name) != parser.get_default(name):
            option = getattr(arguments, name) if name == "precision" else name
            raise MotionError(f"--{option.replace('_', '-')} is for clips of your own: give them with --data")


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


def _image(arguments: argparse.Namespace) -> None:
    from motion.demo import recipes as sprites

    place = device(arguments)
    if arguments.base is not None:
        tell(sprites.train_personal(existing(arguments.base), arguments.look, arguments.out, place, arguments.steps))
    elif arguments.look != LOOKS[0]:
        raise MotionError(f"--look {arguments.look} needs a checkpoint to begin from; give it as --base")
    else:
        tell(sprites.train_base(arguments.out, place, arguments.steps))


def _caption(arguments: argparse.Namespace) -> None:
    from motion.training.blip import write_captions

    written = write_captions(existing(arguments.data), existing(arguments.model), device(arguments))
    tell(f"captions written: {len(written)}")


def _adapter(arguments: argparse.Namespace) -> None:
    from motion.training import recipes

    tell(recipes.train_adapter(_run(arguments), _plan(arguments, recipes.ADAPTER)))


def _motion_lora(arguments: argparse.Namespace) -> None:
    from motion.training import recipes

    tell(recipes.train_motion_lora(_run(arguments), _plan(arguments, recipes.MOTION_LORA)))


def _one_shot(arguments: argparse.Namespace) -> None:
    from motion.training import one_shot

    existing(arguments.data)
    tell(one_shot.train_one_shot(_run(arguments), arguments.prompt, _plan(arguments, one_shot.ONE_SHOT)))


def _sparsectrl(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    from motion.demo import parts as sprite_parts
    from motion.training import masks, sparse
    from motion.training.conditions import Condition

    mixture = masks.MIXTURE if arguments.masks is None else masks.parse(arguments.masks)
    condition = Condition(arguments.condition, arguments.conditions, mixture, arguments.small, arguments.per_frame)
    if arguments.data is not None:
        tell(sparse.train_sparsectrl(_run(arguments), condition, _plan(arguments, sparse.SPARSECTRL)))
        return
    if condition.folder is not None:
        raise MotionError(f"--conditions is {condition.folder}: give the clips that its images are for with --data")
    _refuse_without_data(arguments, parser, "adapter")
    base, module = existing(arguments.checkpoint), existing(arguments.motion)
    run = arguments.out, device(arguments), arguments.steps
    tell(sprite_parts.train_sprite_sparsectrl(base, module, condition, *run))


def _run(arguments: argparse.Namespace) -> Run:
    from motion.settings.settings import FIELDS
    from motion.training.run import Run

    given = vars(arguments)
    for path in filter(None, (given.get("motion"), given.get("adapter"))):
        existing(path)
    names = {"data", "out", "frames", "stride", "batch", "rank", "adapter", "trigger", "move"}
    names |= {"checkpointing", "debias", "sample_every", "precision"}
    return Run(
        existing(arguments.checkpoint),
        device=device(arguments),
        size=FIELDS["size"].parse(arguments.size),
        module=given.get("motion"),
        **{name: given[name] for name in names & given.keys()},
    )


def _plan(arguments: argparse.Namespace, plan: Plan) -> Plan:
    """The recipe's plan with what the arguments change."""
    names = ("steps", "learning_rate", "accumulate", "ema", "seed")
    return replace(plan, **{name: given for name in names if (given := getattr(arguments, name)) is not None})


def _motion(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    from motion.demo import recipes as sprites
    from motion.training import recipes

    if arguments.data is not None:
        tell(recipes.train_motion_module(_run(arguments), _plan(arguments, recipes.MODULE)))
        return
    _refuse_without_data(arguments, parser, "motion", "adapter")
    base = existing(arguments.checkpoint)
    tell(sprites.train_sprite_motion(base, arguments.out, device(arguments), arguments.steps))
