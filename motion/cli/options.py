"""The options of `render`, a function for each group of its help."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from motion.fields.table import Flag
from motion.hosts.continuation import GIVEN
from motion.settings.settings import FIELDS


def add_options(render: argparse.ArgumentParser) -> None:
    """Add all of them; what is not given stays None, so that recipes and sources can say it."""
    _add_models(render)
    _add_pictures(render)
    _add_sources(render)
    _add_clip(render)
    _add_machine(render)


def _add_models(render: argparse.ArgumentParser) -> None:
    files = render.add_argument_group("models")
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
        "--region", metavar="MASK", action="append", default=[],
        help="where a part of the prompt counts that AND joins; one for each, an empty name is everywhere",
    )  # fmt: skip
    files.add_argument("--demo", action="store_true", help="use the bundled models for what is not given")


def _add_pictures(render: argparse.ArgumentParser) -> None:
    files = render.add_argument_group("pictures that lead frames")
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
        "--control", metavar="FILE=CLIP[=STRENGTH]", dest="control_clips", action="append", default=[],
        help="ControlNet, and the clip of depths, edges or poses that leads it; see --structure-blur; repeatable",
    )  # fmt: skip
    files.add_argument("--ip-adapter", metavar="FILE[=SCALE]", help="IP-Adapter: draw the frames after pictures")
    files.add_argument(
        "--ip-image", metavar="FRAME=IMAGE", action="append", default=[],
        help="the picture for an IP-Adapter at a frame, mixed with the next one's in between; repeatable",
    )  # fmt: skip
    files.add_argument("--image-encoder", metavar="DIR", type=Path, help="folder of the IP-Adapter's image encoder")


def _add_sources(render: argparse.ArgumentParser) -> None:
    files = render.add_argument_group("clips that another is made of")
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


def _add_clip(render: argparse.ArgumentParser) -> None:
    clip = render.add_argument_group("clip")
    for row in FIELDS.values():
        default = f" (default: {row.default})" if row.default != "" else ""
        alone: dict[str, Any] = {"nargs": "?", "const": "yes"} if isinstance(row, Flag) else {}
        clip.add_argument(row.flag, dest=row.name, metavar=row.metavar, help=row.help + default, **alone)
    clip.add_argument("--out", metavar="PATH", required=True, help=".gif .webp .png .mp4 .webm, or a folder of PNGs")


def _add_machine(render: argparse.ArgumentParser) -> None:
    machine = render.add_argument_group("machine")
    machine.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    machine.add_argument(
        "--dtype", default="auto", help="auto, fp32, fp16, bf16; fp8: the UNet and motion modules are stored in it"
    )
    machine.add_argument("--low-memory", action="store_true", help="as on a GPU with little memory")
    machine.add_argument("--work", metavar="DIR", type=Path, help="keep each step there, to go on after a crash")
    machine.add_argument("--json", action="store_true", help="print the report as one JSON object")


def _control_option(name: str, text: str) -> tuple[str, str]:
    """An option that keeps its name: which encoder a key frame belongs to is told by their order."""
    return name, text
