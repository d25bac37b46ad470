"""The command line: `python -m motion render | inspect | train`."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from motion import __version__
from motion.cli.options import add_options
from motion.errors import MotionError
from motion.settings.parameters import is_infotext, parse_infotext

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
    add_options(render)
    render.set_defaults(run=_render)


def _add_inspect(commands: Any) -> None:
    inspect = commands.add_parser("inspect", help="say what a weights file or clip is, as JSON", allow_abbrev=False)
    inspect.add_argument("file", metavar="FILE", type=Path)
    inspect.set_defaults(run=_inspect)


def _render(args: argparse.Namespace) -> None:
    from motion.cli import inputs

    task, note = inputs.read_job(args)
    if note:
        sys.stderr.write(f"note: {note}\n")
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
