"""ControlNet's units on a clip: one image for all frames, or a folder or a video with one for each.

sd-webui-controlnet has a switch for the second (`animatediff_batch`, `batch_images`), which its batch tab does not
set; here it is set for the length of a job. Its hints are then made for cond and uncond together; each call of a
control network gets those of the frames it really draws. The ControlNet built into the Forge family takes a folder
(`batch_image_dir`) or uploaded pictures (`batch_input_gallery`) one by one for the pictures of a batch, as it is; some
of the family know but one picture for a unit.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from torch import Tensor

from motion import patching
from motion.errors import MotionError
from motion.sampling.arrangement import Arrangement
from motion.video.files import is_clip_file, stills
from motion.video.read import open_clip

T = TypeVar("T")
TITLE = "controlnet"
NOT_PREPARED = "ControlNet could not prepare its units (the log says why): mend or disable them"


def units_per_frame(p: Any, frames: int, undo: ExitStack) -> None:
    """Let the enabled units with a batch input take one image per frame, until `undo` is closed.

    Fewer images than frames: the last one stays; more: the rest is left out. Raises MotionError for an input that is
    not there.
    """
    script = _script(p)
    if script is None:
        return
    args = list(p.script_args)
    undo.callback(setattr, p, "script_args_value", p.script_args)
    per_frame = _built_in_unit if _is_built_in(script) else _extension_unit
    for index in range(script.args_from, script.args_to):
        args[index] = per_frame(args[index], script, frames, undo)
    p.script_args_value = type(p.script_args)(args)


def stand_down(p: Any) -> None:
    """Switch the units of a refused job off: the host goes on with it until it samples, and out of a batch input
    sd-webui-controlnet would make a job of its own of each image."""
    script = _script(p)
    if script is not None:
        args = list(p.script_args)
        units = slice(script.args_from, script.args_to)
        args[units] = [_changed(unit, {"enabled": False}) for unit in args[units]]
        p.script_args_value = type(p.script_args)(args)


def _extension_unit(unit: Any, script: Any, frames: int, undo: ExitStack) -> Any:
    """A unit of sd-webui-controlnet that takes each frame's image from a folder, or the unit as it is."""
    if not _field(unit, "enabled", isinstance(unit, dict)) or not _field(unit, "batch_images"):
        return unit
    mode = _field(unit, "input_mode", "batch")
    if getattr(mode, "value", mode) != "batch":
        return unit
    folder = _one_per_frame(_field(unit, "batch_images"), frames, undo)
    # Left in its batch mode, the extension would make a job of its own of each image.
    simple = "simple" if isinstance(mode, str) else type(mode)("simple")
    return _changed(unit, {"input_mode": simple, "animatediff_batch": True, "batch_images": str(folder)})


def _built_in_unit(unit: Any, script: Any, frames: int, undo: ExitStack) -> Any:
    """A unit of the Forge family with as many images as frames, or the unit as it is."""
    given = unit
    if isinstance(unit, dict):
        # Made without its batch at first: Classic cannot make a unit with one.
        made = script.get_enabled_units([{key: value for key, value in unit.items() if not key.startswith("batch_")}])
        if len(made) != 1:
            return unit
        unit = made[0]
    if not _field(unit, "enabled", False):
        return unit
    fields = vars(type(unit)())
    if "batch_image_dir" not in fields:  # Classic's class has the name, but no unit of it
        return _shown_one_by_one(given, unit, script, frames, undo)
    modes = {mode.value: mode for mode in type(fields["input_mode"])}
    if isinstance(given, dict):
        (unit,) = script.get_enabled_units([given])
    mode = getattr(unit.input_mode, "value", unit.input_mode)  # Forge takes over what the API was given
    if mode == "batch":
        folder = _one_per_frame(unit.batch_image_dir, frames, undo)
        return _changed(unit, {"input_mode": modes[mode], "batch_image_dir": str(folder)})
    if mode == "merge" and _field(unit, "batch_input_gallery"):
        fitted = _fitted(unit.batch_input_gallery, frames)
        return _changed(unit, {"input_mode": modes[mode], "batch_input_gallery": fitted})
    return unit


def _shown_one_by_one(given: Any, unit: Any, script: Any, frames: int, undo: ExitStack) -> Any:
    """A unit of a host that knows but one image for it (Classic, Neo since 2026), or the unit as it is.

    The API may name a folder or a video all the same, as `batch_image_dir`: the host is then given the images of a
    batch where it asks for the unit's one.
    """
    if not (isinstance(given, dict) and given.get("input_mode", "batch") == "batch" and given.get("batch_image_dir")):
        return unit
    files = sorted(_one_per_frame(given["batch_image_dir"], frames, undo).iterdir())
    simple = {name: getattr(type(unit)(), name) for name in ("input_mode",) if hasattr(unit, name)}
    shown, ask = _changed(unit, simple), script.get_input_data

    def all_images(p: Any, asked: Any, *others: Any) -> Any:
        if asked is not shown:
            return ask(p, asked, *others)
        found, resize_mode = [], None
        for file in files:
            images, resize_mode = ask(p, _changed(asked, _as_drawn(asked, file)), *others)
            found += images
        return found, resize_mode

    undo.callback(patching.item(vars(script), "get_input_data", all_images))
    return shown


def _as_drawn(unit: Any, file: Path) -> dict[str, Any]:
    """The fields of a unit into which a picture was put, with nothing drawn over it."""
    picture = np.asarray(Image.open(file).convert("RGB"))
    fields: dict[str, Any] = {"image": {"image": picture, "mask": np.zeros_like(picture)}}
    if hasattr(unit, "image_fg"):
        fields["image_fg"] = np.zeros((*picture.shape[:2], 4), np.uint8)
    return fields


def built_in_modules(p: Any, prefix: str) -> list[str]:
    """The preprocessors of the built-in ControlNet's enabled units whose names begin so."""
    script = _script(p)
    if script is None or not _is_built_in(script):
        return []
    units = p.script_args[script.args_from : script.args_to]
    enabled = (unit for unit in units if _field(unit, "enabled", isinstance(unit, dict)))
    modules = (str(_field(unit, "module", "")) for unit in enabled)
    return [f"ControlNet's {module}" for module in modules if module.startswith(prefix)]


def hints_by_frame(p: Any, arrangement: Arrangement, undo: ExitStack) -> None:
    """While the job samples, hand each call of a control network the hints of its own rows.

    Raises MotionError if the extension could not prepare its units; it goes on without them.
    """
    script = _script(p)
    if script is not None and _is_built_in(script):
        units = script.get_enabled_units(list(p.script_args[script.args_from : script.args_to]))
        if len(getattr(script, "current_params", ())) < len(units):
            raise MotionError(NOT_PREPARED)
        return
    if script is None or not getattr(script, "enabled_units", None):
        return
    network = getattr(script, "latest_network", None)
    if network is None:
        raise MotionError(NOT_PREPARED)
    for param in network.control_params:
        rows = getattr(param.hint_cond, "shape", (1,))[0]
        if rows in (arrangement.frames, 2 * arrangement.frames):
            undo.callback(patching.before(param.control_model, _of_these_rows(arrangement), with_kwargs=True))


def _of_these_rows(arrangement: Arrangement) -> Callable[..., Any]:
    def fit(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        hint, x = kwargs.get("hint"), kwargs.get("x")
        if not isinstance(hint, Tensor) or not isinstance(x, Tensor):
            return None
        return args, {**kwargs, "hint": hint[arrangement.frame_numbers(len(x))]}

    return fit


def _script(p: Any) -> Any:
    scripts = getattr(p.scripts, "alwayson_scripts", []) if p.scripts is not None else []
    return next((script for script in scripts if str(script.title()).casefold() == TITLE), None)


def _is_built_in(script: Any) -> bool:
    """Is it the Forge family's own? Known by a method: what it has prepared it keeps only from its first job on."""
    return hasattr(script, "process_unit_after_click_generate")


def _field(unit: Any, name: str, default: Any = None) -> Any:
    return unit.get(name, default) if isinstance(unit, dict) else getattr(unit, name, default)


def _changed(unit: Any, fields: dict[str, Any]) -> Any:
    """A copy: the page keeps the unit itself for the next job."""
    if isinstance(unit, dict):
        return {**unit, **fields}
    unit = copy.copy(unit)
    for name, value in fields.items():
        setattr(unit, name, value)
    return unit


def _one_per_frame(given: Any, frames: int, undo: ExitStack) -> Path:
    """A folder of `frames` pictures made from a folder or a video; it is removed when `undo` is closed."""
    first, *others = str(given).strip().splitlines() or [""]
    if any(line.strip() for line in others):
        raise MotionError(
            f"ControlNet's batch input has a line {others[0].strip()!r} besides its folder, which does nothing here: "
            "name the folder alone, and give key frames in Motion's own list"
        )
    source = Path(first.strip())
    if (source.is_dir() and not stills(source)) or (not source.is_dir() and not is_clip_file(source)):
        raise MotionError(f"ControlNet's batch input {source} holds no images: give a folder of images or a video")
    folder = Path(undo.enter_context(TemporaryDirectory(prefix="motion-hints-")))
    pictures = list(open_clip(source).frames(stop=frames))
    for number, picture in enumerate(_fitted(pictures, frames)):
        Image.fromarray(picture).save(folder / f"{number:05}.png")
    return folder


def _fitted(images: Sequence[T], frames: int) -> list[T]:
    return [*images[:frames], *[images[-1]] * (frames - len(images))]
