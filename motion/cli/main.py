"""The command line: `python -m motion render | inspect | train`."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from motion import __version__
from motion.errors import MotionError
from motion.fields.table import Flag
from motion.hosts.continuation import GIVEN
from motion.settings.parameters import is_infotext, parse_infotext
from motion.settings.settings import FIELDS, Clip

BAD_INPUT, INTERRUPTED = 2, 130


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line, as all others are."""

    def error(self, message: str) -> NoReturn:
        raise MotionError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 2 for bad input, 130 when interrupted."""
    argv = _joined(sys.argv[1:] if argv is None else argv)
    warnings.filterwarnings("ignore", module="PIL")  # of odd files: what matters of them is told in a line
    try:
        args = _parser(argv).parse_args(argv)
        args.run(args)
    except MotionError as error:
        return _refused(str(error))
    except (MemoryError, RuntimeError) as error:
        from motion.hosts.memory import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        return _refused("there is not enough memory: take less at a time, smaller frames, or close what else uses it")
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: nothing was written\n")
        return INTERRUPTED
    return 0


def _refused(sentence: str) -> int:
    # One line, and one that any terminal takes: names may hold line breaks and broken Unicode.
    line = " ".join(sentence.split()).encode("utf-8", "backslashreplace").decode()
    sys.stderr.write(f"error: {line}\n")
    return BAD_INPUT


def _parser(argv: Sequence[str]) -> Parser:
    parser = Parser("python -m motion", description="Clips from Stable Diffusion checkpoints.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"motion {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="render | inspect | train")
    _add_render(commands)
    _add_inspect(commands)
    # The recipes import torch; only `train` itself waits for that.
    if list(argv[:1]) == ["train"]:
        import_module("motion.cli.train").add_arguments(commands)
    else:
        commands.add_parser("train", help="train a model by one of the recipes")
    return parser


def _add_render(commands: Any) -> None:
    render = commands.add_parser("render", help="draw a clip into a file", allow_abbrev=False)
    files = render.add_argument_group("files")
    files.add_argument("--checkpoint", metavar="FILE", help="SD1.5 or SDXL checkpoint, or a diffusers folder")
    files.add_argument("--vae", metavar="FILE", type=Path, help="autoencoder in place of the checkpoint's own")
    files.add_argument(
        "--prediction", choices=("auto", "epsilon", "v"), default="auto",
        help="what the checkpoint predicts; auto: as it says itself, or a .yaml beside it",
    )  # fmt: skip
    files.add_argument("--motion", metavar="FILE", help="motion module; without one each frame is a still of its own")
    files.add_argument("--one-shot", metavar="FILE", type=Path, help="Tune-A-Video file, in place of a motion module")
    files.add_argument("--no-motion", action="store_true", help="without the motion module of --demo; see --zero-shot")
    files.add_argument(
        "--motion-lora", metavar="FILE[:WEIGHT|CURVE]", action="append", default=[], help="motion LoRA; repeatable"
    )
    files.add_argument(
        "--further-module", metavar="FILE[;effect=CURVE;start=N;end=N;mask=FILE]", action="append", default=[],
        help="motion module that acts beside the first; repeatable",
    )  # fmt: skip
    files.add_argument("--style", metavar="FILE[:STRENGTH|CURVE]", help="checkpoint whose style the clip takes on")
    files.add_argument("--adapter", metavar="FILE", type=Path, help="domain adapter; see --adapter-scale")
    files.add_argument("--lora", metavar="FILE[=WEIGHT]", action="append", default=[], help="LoRA file; repeatable")
    files.add_argument("--lora-dir", metavar="DIR", type=Path, help="where the LoRAs named in the prompt lie")
    files.add_argument(
        "--embedding", metavar="FILE", action="append", default=[], type=Path,
        help="textual inversion; prompts call it by the file's name; repeatable",
    )  # fmt: skip
    files.add_argument(
        "--sparsectrl", metavar="FILE", dest="control", action="append", type=partial(_control_option, "sparsectrl"),
        help="SparseCtrl encoder; what it takes is told by the file; repeatable, each followed by its key frames",
    )  # fmt: skip
    files.add_argument(
        "--keyframe", metavar="FRAME=IMAGE", dest="control", action="append", type=partial(_control_option, "keyframe"),
        help="the image at a frame, -1 is the last, IMAGE=0.5 its strength; or 0,8,-1=FOLDER, or one of uniform, "
        "start, center, end for the frames; repeatable",
    )  # fmt: skip
    files.add_argument(
        "--init", metavar="CLIP", help="movie, animation or folder of frames that is drawn anew; see --strength"
    )
    files.add_argument(
        "--invert", metavar="CLIP", help="clip whose noise, found by DDIM inversion, is what the new one begins with"
    )
    files.add_argument("--init-range", metavar="FIRST-LAST", help="frames of it that are used, counted from 0")
    files.add_argument("--init-every", metavar="N", help="use each n-th of them")
    files.add_argument(
        "--mask", metavar="CLIP", type=Path,
        help="picture, clip or folder that is white where the clip of --init is drawn anew; it stays elsewhere",
    )  # fmt: skip
    files.add_argument(
        "--only-masked", metavar="PIXELS", nargs="?", const="",
        help="draw only what the mask shows, in a box that follows it with so many PIXELS around it (32), as large as "
        "--size; the frames keep the source's own size",
    )  # fmt: skip
    files.add_argument("--extend", metavar="CLIP", type=Path, help="clip that goes on: new frames stand behind its own")
    files.add_argument("--extend-given", metavar="N", help=f"its last frames that are given (default: {GIVEN})")
    files.add_argument("--extend-to", metavar="N", help="frames of the whole; drawn round by round")
    files.add_argument("--connect", metavar="CLIP", type=Path, help="clip that the one of --extend leads over to")
    files.add_argument(
        "--control", metavar="FILE=CLIP[=STRENGTH]", dest="control_clips", action="append", default=[],
        help="ControlNet, and the clip of depths, edges or poses that leads it; see --structure-blur; repeatable",
    )  # fmt: skip
    files.add_argument("--ip-adapter", metavar="FILE[=SCALE]", help="IP-Adapter: draw the frames after pictures")
    files.add_argument(
        "--ip-image", metavar="FRAME=IMAGE", action="append", default=[],
        help="the picture for an IP-Adapter at a frame, mixed with the next one's in between; repeatable",
    )  # fmt: skip
    files.add_argument("--image-encoder", metavar="DIR", type=Path, help="folder of the IP-Adapter's image encoder")
    files.add_argument("--out", metavar="PATH", required=True, help=".gif .webp .png .mp4 .webm, or a folder of PNGs")
    files.add_argument("--demo", action="store_true", help="use the bundled models for what is not given")
    clip = render.add_argument_group("clip")
    for row in FIELDS.values():
        default = f" (default: {row.default})" if row.default != "" else ""
        alone = {"nargs": "?", "const": "yes"} if isinstance(row, Flag) else {}
        clip.add_argument(row.flag, dest=row.name, metavar=row.metavar, help=row.help + default, **alone)
    machine = render.add_argument_group("machine")
    machine.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    machine.add_argument("--dtype", default="auto", help="auto, fp32, fp16, bf16; fp8: the UNet is stored in it")
    machine.add_argument("--low-memory", action="store_true", help="as on a GPU with little memory")
    machine.add_argument("--work", metavar="DIR", type=Path, help="keep each step there, to go on after a crash")
    machine.add_argument("--json", action="store_true", help="print the report as one JSON object")
    render.set_defaults(run=_render)


def _control_option(name: str, text: str) -> tuple[str, str]:
    """An option that keeps its name: which encoder a key frame belongs to is told by their order."""
    return name, text


def _add_inspect(commands: Any) -> None:
    inspect = commands.add_parser("inspect", help="say what a weights file or clip is, as JSON", allow_abbrev=False)
    inspect.add_argument("file", metavar="FILE", type=Path)
    inspect.set_defaults(run=_inspect)


def _render(args: argparse.Namespace) -> None:
    from motion.cli import inputs, render
    from motion.hosts.standalone.networks import key_frames, lora
    from motion.weights.bundled import DEMO

    given = {name: value for name, value in vars(args).items() if value is not None}
    source = inputs.read_source(args)
    continuation = inputs.read_continuation(args)
    inverted = inputs.read_inverted(args)
    of_clip = source or inverted
    followed = inputs.follow(of_clip, given) if of_clip is not None else {}
    if continuation is not None:
        followed = inputs.follow(continuation.clip, {**given, "frames": True})
    options = {**followed, **(DEMO if args.demo else {}), **given}
    if args.no_motion or (args.one_shot is not None and args.motion is None):
        options.pop("motion", None)
    options, note = inputs.use_recipe(options, given)
    if note:
        sys.stderr.write(f"note: {note}\n")
    for needed in ("checkpoint", "prompt"):
        if needed not in options:
            raise MotionError(f"--{needed} is missing: give one, or try --demo for the bundled models")
    clip = Clip(**{name: row.parse(options[name]) for name, row in FIELDS.items() if name in options})
    given_loras, closed = [lora.parse(text) for text in args.lora], clip.loop == "closed"
    loras = lora.gather(clip.prompt, given_loras, args.lora_dir, clip.frames, closed)
    module = Path(options["motion"]) if "motion" in options else None
    if continuation is None:
        controls = key_frames.gather(args.control or [], clip.frames, clip.pictures_only)
    else:
        controls = key_frames.gather_encoders(args.control or [])
    task = render.Job(
        clip,
        Path(options["checkpoint"]),
        module,
        args.out,
        loras=tuple(loras),
        motion_loras=inputs.read_motion_loras(args.motion_lora, clip.frames),
        style=inputs.read_style(args.style, clip.frames),
        further=inputs.read_further(args.further_module),
        adapter=args.adapter,
        device=args.device,
        dtype=args.dtype,
        low_memory=args.low_memory,
        controls=tuple(controls),
        work=args.work,
        vae=args.vae,
        prediction=args.prediction,
        image_prompt=inputs.read_image_prompt(args, clip.frames),
        embeddings=tuple(args.embedding),
        source=source,
        continuation=continuation,
        one_shot=args.one_shot,
        inverted=inverted,
        control_clips=inputs.read_control_clips(args),
    )
    with _Bar() as bar:
        report = task.run(bar)
    if report is None:  # another process tells
        return
    line = "{path}: {frames} frames of {width}x{height}, seed {seed}, {seconds} s".format(**report)
    line += "".join(f", {key}: {value}" for key, value in report["sparsectrl"].items() if value)
    sys.stdout.write((json.dumps(report, ensure_ascii=False) if args.json else line) + "\n")


def _joined(argv: Sequence[str]) -> list[str]:
    """`--keyframe -1=last.png` in one word: argparse would take the second for an option."""
    words: list[str] = []
    for word in argv:
        if words and words[-1] in ("--keyframe", "--ip-image"):
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


class _Bar:
    """A progress bar on standard error that appears with the first step."""

    def __enter__(self) -> _Bar:
        self.bar: Any = None
        return self

    def __call__(self, done: int, steps: int) -> None:
        from tqdm import tqdm

        self.bar = self.bar or tqdm(total=steps, desc="drawing", unit="step", file=sys.stderr)
        self.bar.update(done - self.bar.n)

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()


def _inspect(args: argparse.Namespace) -> None:
    from motion.video.files import is_clip_file

    is_clip = args.file.is_dir() or is_clip_file(args.file)
    report = _describe_clip(args.file) if is_clip else _describe_weights(args.file)
    sys.stdout.write(json.dumps(report, ensure_ascii=False, indent=2) + "\n")


def _describe_weights(path: Path) -> dict[str, Any]:
    from motion.weights.describe import describe

    return describe(path)


def _describe_clip(path: Path) -> dict[str, Any]:
    from motion.video.read import open_clip

    found = open_clip(path)
    frames, height, width = 0, 0, 0
    for frame in found.frames():
        frames, (height, width) = frames + 1, frame.shape[:2]
    report = {"file": path.name, "kind": "clip", "frames": frames, "fps": found.fps, "width": width, "height": height}
    settings = None
    if is_infotext(found.parameters or ""):
        try:
            clip, extra = parse_infotext(found.parameters or "")
            settings = {**asdict(clip), "size": str(clip.size), **extra}
        except MotionError:
            pass  # of another version
    return {**report, "parameters": found.parameters, "settings": settings}
