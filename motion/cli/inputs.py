"""What a `render` command asks for: its job, and the clips and pictures that it names."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motion.cli.render import Job
from motion.errors import MotionError
from motion.hosts.continuation import GIVEN, Continuation
from motion.hosts.only_masked import OnlyMasked
from motion.hosts.source import Source
from motion.hosts.standalone.networks import key_frames, lora
from motion.hosts.standalone.networks.lora import VaryingFile, split_weight
from motion.settings.choices import MOST_FRAMES
from motion.settings.few_steps import contradiction, find_recipe
from motion.settings.layers import FurtherModule
from motion.settings.lora_tags import HIGH, LOW, lora_tags
from motion.settings.settings import FIELDS, Clip
from motion.settings.tab import TAB_FIELDS
from motion.weights.bundled import DEMO
from motion.weights.paths import SUFFIXES, check_file
from motion.weights.published import published_names

if TYPE_CHECKING:  # it imports torch
    from motion.hosts.standalone.networks.control_net import ControlClip
    from motion.hosts.standalone.networks.image_prompt import ImagePrompt


def read_job(args: argparse.Namespace) -> tuple[Job, str]:
    """What a command asks for, and a note where it contradicts a few-step recipe; empty if not.

    Raises MotionError for what is missing or cannot be.
    """
    source, continuation, inverted = read_source(args), read_continuation(args), read_inverted(args)
    options, note = _options(args, source or inverted, continuation)
    clip = Clip(**{name: row.parse(options[name]) for name, row in FIELDS.items() if name in options})
    named, loras = args.control or [], [lora.parse(text) for text in options["lora"]]
    task = Job(
        clip,
        Path(options["checkpoint"]),
        Path(options["motion"]) if "motion" in options else None,
        args.out,
        loras=tuple(lora.gather(clip.prompt, loras, args.lora_dir, clip.frames, clip.loop == "closed")),
        motion_loras=read_motion_loras(args.motion_lora, clip.frames),
        style=read_style(args.style, clip.frames),
        regions=tuple(Path(text) if text else None for text in args.region),
        further=read_further(args.further_module),
        adapter=args.adapter,
        device=args.device,
        dtype=args.dtype,
        low_memory=args.low_memory,
        controls=tuple(
            key_frames.gather(named, clip.frames, clip.pictures_only)
            if continuation is None
            else key_frames.gather_encoders(named)
        ),
        work=args.work,
        vae=args.vae,
        prediction=args.prediction,
        image_prompt=read_image_prompt(args, clip.frames),
        embeddings=tuple(args.embedding),
        source=source,
        continuation=continuation,
        one_shot=args.one_shot,
        inverted=inverted,
        control_clips=read_control_clips(args),
    )
    return task, note


def _options(
    args: argparse.Namespace, clip: Source | None, continuation: Continuation | None
) -> tuple[dict[str, Any], str]:
    """The settings: what is given, else what a few-step recipe, the bundled models or a clip say; and a note."""
    given = {name: value for name, value in vars(args).items() if value is not None}
    followed = follow(clip, given) if clip is not None else {}
    if continuation is not None:
        followed = follow(continuation.clip, {**given, "frames": True})
    options = {**followed, **(DEMO if args.demo else {}), **given}
    if args.no_motion or (args.one_shot is not None and args.motion is None):
        options.pop("motion", None)
    options, note = use_recipe(options, given)
    for needed in ("checkpoint", "prompt"):
        if needed not in options:
            raise MotionError(f"--{needed} is missing: give one, or try --demo for the bundled models")
    return options, note


def read_source(args: argparse.Namespace) -> Source | None:
    """The clip that is drawn anew."""
    if args.init is None:
        frames = () if args.invert is not None else (args.init_range, args.init_every)
        if any(given is not None for given in (*frames, args.mask, args.only_masked)):
            raise MotionError("there is no source clip to take frames of: give one with --init CLIP")
        return None
    if args.invert is not None:
        raise MotionError(f"the clip is to be made of {args.init} and of {args.invert}: give --init or --invert")
    source = Source.parse(args.init, args.init_range, args.init_every, args.mask)
    return source if args.only_masked is None else OnlyMasked.of(source, args.only_masked)


def read_inverted(args: argparse.Namespace) -> Source | None:
    """The clip whose noise another one begins with."""
    return None if args.invert is None else Source.parse(args.invert, args.init_range, args.init_every)


def read_continuation(args: argparse.Namespace) -> Continuation | None:
    """The clip that goes on."""
    if args.extend is None:
        if args.extend_given is not None or args.extend_to is not None or args.connect is not None:
            raise MotionError("there is no clip that goes on: give one with --extend CLIP")
        return None
    given = GIVEN if args.extend_given is None else _count(args.extend_given, "extend given")
    length = None if args.extend_to is None else _count(args.extend_to, "extend to")
    onto = None if args.connect is None else Source(args.connect)
    return Continuation(Source(args.extend), given, length, onto)


def _count(text: str, what: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= MOST_FRAMES:
        raise MotionError(f"{what} is {text}: give a whole number from 1 to {MOST_FRAMES}")
    return int(text)


def read_control_clips(args: argparse.Namespace) -> tuple[ControlClip, ...]:
    """The ControlNets with their clips; what reads them imports torch."""
    if not args.control_clips:
        return ()
    from motion.hosts.standalone.networks.control_net import ControlClip

    return tuple(map(ControlClip.parse, args.control_clips))


def read_motion_loras(texts: Sequence[str], frames: int) -> tuple[VaryingFile, ...]:
    """The motion LoRAs of a clip of ``frames``, each with its weight. Raises MotionError."""
    return tuple(VaryingFile.parse(text, frames, "LoRA", LOW, HIGH) for text in texts)


def read_style(text: str | None, frames: int) -> VaryingFile | None:
    """The checkpoint whose style a clip of ``frames`` takes on. Raises MotionError."""
    return None if text is None else VaryingFile.parse(text, frames, "style", 0, 1)


def read_further(texts: Sequence[str]) -> tuple[FurtherModule, ...]:
    """The motion modules that act beside the first, each of `FILE;name=value;...`. Raises MotionError."""
    items = []
    for text in texts:
        file, *parts = text.split(";")
        named: dict[str, Any] = {"module": file}
        for name, _, value in (part.partition("=") for part in parts):
            named[name.strip()] = value
        with suppress(ValueError):  # what is no number is refused by the row
            named |= {name: float(named[name]) for name in ("start", "end") if name in named}
        items.append(named)
        check_file(Path(file), "further motion module")
    found: tuple[FurtherModule, ...] = TAB_FIELDS["modules"].check(items)
    return found


def follow(clip: Source, given: Mapping[str, Any]) -> dict[str, str]:
    """What a clip takes from its source where it is not ``given``: frames, their rate and their size."""
    found = clip.measure(1) if "frames" in given else clip.measure()
    rate = FIELDS["fps"]
    options = {"size": f"{found.size.width}x{found.size.height}"}
    if found.frames > 1:
        options["frames"] = str(found.frames)
    if found.fps is not None:
        options["fps"] = f"{min(max(found.fps, rate.low), rate.high):.3f}"  # type: ignore[attr-defined]
    return options


def use_recipe(options: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """`options` with the settings that a few-step file among them was distilled for where they are not ``given``, and
    the LoRA that belongs to it where that lies beside it; and a note where they contradict those, empty if not."""
    module, files = Path(options.get("motion", "")), [split_weight(text)[0] for text in options["lora"]]
    loras = [*chain.from_iterable(map(published_names, files))]
    loras += [tag.name for tag in lora_tags(options.get("prompt", ""))]
    recipe = find_recipe(chain(published_names(module), loras))
    if recipe is None:
        return dict(options), ""
    settled = {**options, **recipe.settings, **given}
    if recipe.lora and find_recipe(loras) is None:
        beside = sorted(file for file in module.parent.glob(f"{recipe.lora}*") if file.suffix in SUFFIXES)
        settled["lora"] = [*settled["lora"], *(f"{file}={recipe.strength}" for file in beside[:1])]
        loras += [file.stem for file in beside[:1]]
    return settled, contradiction(recipe, settled, loras)


def read_image_prompt(args: argparse.Namespace, frames: int) -> ImagePrompt | None:
    """The pictures that frames are drawn after; what reads them imports torch."""
    if args.ip_adapter is None and not args.ip_image and args.image_encoder is None:
        return None
    from motion.hosts.standalone.networks.image_prompt import gather

    return gather(args.ip_adapter, args.ip_image, args.image_encoder, frames)
