"""sd-webui-controlnet's units on a clip: one image for all frames, or a folder or a video with one for each.

The extension has a switch for the second (`animatediff_batch`, `batch_images`, `batch_modifiers`), which its batch tab
does not set; here it is set for the length of a job. Its hints are then made for cond and uncond together; each call
of a control network gets those of the frames it really draws.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image
from torch import Tensor

from motion import patching
from motion.arrangement import Arrangement
from motion.errors import MotionError
from motion.video.read import read

TITLE = "controlnet"
VIDEOS = (".mp4", ".webm", ".gif", ".webp", ".apng", ".mkv", ".mov", ".avi")


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
    for index in range(script.args_from, script.args_to):
        if not _is_batch(args[index]):
            continue
        # Left in its batch mode, the extension would make a job of its own of each image.
        unit = args[index] = _changed(args[index], {"input_mode": _simple(args[index])})
        p.script_args_value = type(p.script_args)(args)
        args[index] = _changed(unit, _per_frame(unit, frames, undo))
    p.script_args_value = type(p.script_args)(args)


def hints_by_frame(p: Any, arrangement: Arrangement, undo: ExitStack) -> None:
    """While the job samples, hand each call of a control network the hints of its own rows.

    Raises MotionError if the extension could not prepare its units; it goes on without them.
    """
    script = _script(p)
    if script is None or not getattr(script, "enabled_units", None):
        return
    network = getattr(script, "latest_network", None)
    if network is None:
        raise MotionError("ControlNet could not prepare its units (the log says why): mend or disable them")
    for param in network.control_params:
        rows = getattr(param.hint_cond, "shape", (1,))[0]
        if rows in (arrangement.frames, 2 * arrangement.frames):
            undo.callback(patching.before(param.control_model, _fitted(arrangement), with_kwargs=True))


def _fitted(arrangement: Arrangement) -> Callable[..., Any]:
    def fit(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        hint, x = kwargs.get("hint"), kwargs.get("x")
        if not isinstance(hint, Tensor) or not isinstance(x, Tensor):
            return None
        return args, {**kwargs, "hint": hint[arrangement.frame_numbers(len(x))]}

    return fit


def _script(p: Any) -> Any:
    scripts = getattr(p.scripts, "alwayson_scripts", []) if p.scripts is not None else []
    return next((script for script in scripts if str(script.title()).casefold() == TITLE), None)


def _is_batch(unit: Any) -> bool:
    if not _field(unit, "enabled", isinstance(unit, dict)) or not _field(unit, "batch_images"):
        return False
    mode = _field(unit, "input_mode", "batch")
    return getattr(mode, "value", mode) == "batch"


def _field(unit: Any, name: str, default: Any = None) -> Any:
    return unit.get(name, default) if isinstance(unit, dict) else getattr(unit, name, default)


def _simple(unit: Any) -> Any:
    mode = _field(unit, "input_mode", "batch")
    return "simple" if isinstance(mode, str) else type(mode)("simple")


def _changed(unit: Any, fields: dict[str, Any]) -> Any:
    """A copy: the page keeps the unit itself for the next job."""
    if isinstance(unit, dict):
        return {**unit, **fields}
    unit = copy.copy(unit)
    for name, value in fields.items():
        setattr(unit, name, value)
    return unit


def _per_frame(unit: Any, frames: int, undo: ExitStack) -> dict[str, Any]:
    """The fields by which a unit takes each frame's image from a folder."""
    given = _field(unit, "batch_images")
    folder = Path(given.splitlines()[0].strip() if isinstance(given, str) else str(given))
    if folder.suffix.lower() in VIDEOS and folder.is_file():
        folder = _extracted(folder, undo)
    if not folder.is_dir() or not any(folder.iterdir()):
        raise MotionError(f"ControlNet's batch input {folder} holds no images: give a folder of images or a video")

    def fit(files: Sequence[str], _: Any) -> list[str]:
        return [*files[:frames], *[files[-1]] * (frames - len(files))]

    return {"animatediff_batch": True, "batch_images": str(folder), "batch_modifiers": [fit]}


def _extracted(video: Path, undo: ExitStack) -> Path:
    folder = Path(undo.enter_context(TemporaryDirectory(prefix="motion-hints-")))
    for number, frame in enumerate(read(video).frames):
        Image.fromarray(frame).save(folder / f"{number:05}.png")
    return folder
