"""ControlNet's units on a clip: one image for all frames, or a folder or a video with one for each.

sd-webui-controlnet has a switch for the second (`animatediff_batch`, `batch_images`), which its batch tab does not
set; here it is set for the length of a job. Its hints are then made for cond and uncond together; each call of a
control network gets those of the frames it really draws. The ControlNet built into the Forge family takes a folder
(`batch_image_dir`) or uploaded pictures (`batch_input_gallery`) one by one for the pictures of a batch, as it is; some
of the family know but one picture for a unit.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from motion import patching
from motion.errors import MotionError
from motion.hosts.webui.controlnet.cached import follow_cache
from motion.hosts.webui.controlnet.hints import fit_hints
from motion.hosts.webui.controlnet.image_prompts import (
    prompt_networks,
    prompt_patchers,
    shares,
    takes_image_prompt,
)
from motion.hosts.webui.controlnet.inputs import Clip, Shown, fitted, read_input, write_pictures
from motion.hosts.webui.controlnet.strengths import weigh_networks, weigh_patchers
from motion.sampling.arrangement import Arrangement

TITLE = "controlnet"
BATCHES = ("batch_images", "batch_image_dir", "batch_input_gallery")
"""The fields of units that name several images."""
OF_ONE = ("instant_id", "instantid", "insightface", "revision", "clip_vision", "pulid", "reference")
"""Parts of the names of preprocessors whose results cannot be told apart by frame."""
OF_WHOLE = "ControlLLLitePatcher"
"""The class of the Forge family's networks that show each call of the UNet the pictures of all frames."""
NOT_PREPARED = "ControlNet could not prepare its units (the log says why): mend or disable them"


def units_per_frame(p: Any, clip: Clip, undo: ExitStack) -> list[Shown | None]:
    """Let the enabled units with a batch input take one image per frame, until `undo` is closed, and those without an
    image the clip's source; what each of those that are enabled is shown so.

    Raises MotionError as `read_input` does, and for a source that no unit takes.
    """
    script = _script(p)
    found: list[Shown | None] = []
    if script is not None:
        args = list(p.script_args)
        undo.callback(setattr, p, "script_args_value", p.script_args)
        per_frame = _built_in_unit if _is_built_in(script) else _extension_unit
        fed = 0
        for index in range(script.args_from, script.args_to):
            unit = args[index]
            if _is_enabled(unit):
                shown = _shown(unit, clip, undo)
                fed += _has_no_image(unit)
                args[index] = per_frame(unit, script, clip, shown, undo)
                found.append(shown)
        p.script_args_value = type(p.script_args)(args)
    if clip.source is not None and (script is None or not fed):
        raise MotionError(
            "no ControlNet unit is shown the source clip: enable one without an image of its own, or turn "
            "Source for ControlNet off"
        )
    return found


def stand_down(p: Any) -> None:
    """Switch the units of a refused job off: the host goes on with it until it samples, and out of a batch input
    sd-webui-controlnet would make a job of its own of each image."""
    script = _script(p)
    if script is not None:
        args = list(p.script_args)
        units = slice(script.args_from, script.args_to)
        args[units] = [_changed(unit, {"enabled": False}) for unit in args[units]]
        p.script_args_value = type(p.script_args)(args)


def _shown(unit: Any, clip: Clip, undo: ExitStack) -> Shown | None:
    """What an enabled unit is shown that has a batch input, or none of its own where the clip has a source; None where
    it has an image."""
    given = _field(unit, "batch_images") or _field(unit, "batch_image_dir")
    mode = _field(unit, "input_mode", "batch")
    if getattr(mode, "value", mode) == "batch" and given:
        if _takes_one(unit):
            raise MotionError(f"ControlNet's {_field(unit, 'module')} takes one picture for a clip: give it no folder")
        return read_input(given, clip, undo, partial(shares, clip) if _is_prompt(unit) else None)
    if clip.source is not None and _has_no_image(unit):
        mixed = shares(clip, range(clip.drawn)) if _is_prompt(unit) else None
        return Shown(write_pictures(clip.source(), undo), mixed=mixed)
    return None


def _is_prompt(unit: Any) -> bool:
    """Whether it draws after pictures: an IP-Adapter's."""
    return takes_image_prompt(str(_field(unit, "module", "")))


def _has_no_image(unit: Any) -> bool:
    """Whether it could be shown images and has neither an image nor a batch input."""
    given = [_field(unit, name) for name in ("image", "input_image", *BATCHES)]
    images = [each.get("image") if isinstance(each, dict) else each for each in given]
    return not _takes_one(unit) and all(each is None or (isinstance(each, (str, list)) and not each) for each in images)


def _takes_one(unit: Any) -> bool:
    """Whether its preprocessor makes something else of a picture than a picture, such as image tokens."""
    return any(part in str(_field(unit, "module", "")).casefold() for part in OF_ONE)


def _extension_unit(unit: Any, script: Any, clip: Clip, shown: Shown | None, undo: ExitStack) -> Any:
    """A unit of sd-webui-controlnet that takes each frame's image from a folder, an IP-Adapter's that takes them all,
    or the unit as it is."""
    if shown is None:
        return unit
    mode = _field(unit, "input_mode", "batch")
    # Left in its batch mode, the extension would make a job of its own of each image.
    simple = "simple" if isinstance(mode, str) else type(mode)("simple")
    if shown.mixed is not None:
        images = [{"image": str(file)} for file in sorted(shown.folder.iterdir())]
        return _changed(unit, {"input_mode": simple, "image": images})
    return _changed(unit, {"input_mode": simple, "animatediff_batch": True, "batch_images": str(shown.folder)})


def _built_in_unit(unit: Any, script: Any, clip: Clip, shown: Shown | None, undo: ExitStack) -> Any:
    """A unit of the Forge family with as many images as frames, or the unit as it is."""
    given = unit
    if isinstance(unit, dict):
        # Made without its batch at first: Classic cannot make a unit with one.
        made = script.get_enabled_units([{key: value for key, value in unit.items() if not key.startswith("batch_")}])
        if len(made) != 1:
            return unit
        unit = made[0]
    fields = vars(type(unit)())
    if shown is not None and shown.mixed is not None:  # the others are its IP-Adapter's affair
        first, simple = min(shown.folder.iterdir()), {}
        if "input_mode" in fields:
            simple = {"input_mode": type(fields["input_mode"])("simple")}
        return _changed(unit, {**_as_drawn(unit, first), **simple})
    if "batch_image_dir" not in fields:  # Classic's class has the name, but no unit of it
        return unit if shown is None else _shown_one_by_one(unit, shown.folder, script, undo)
    modes = {mode.value: mode for mode in type(fields["input_mode"])}
    if isinstance(given, dict):
        (unit,) = script.get_enabled_units([given])
    if shown is not None:
        return _changed(unit, {"input_mode": modes["batch"], "batch_image_dir": str(shown.folder)})
    mode = getattr(unit.input_mode, "value", unit.input_mode)  # Forge takes over what the API was given
    if mode == "merge" and _field(unit, "batch_input_gallery"):
        return _changed(
            unit, {"input_mode": modes[mode], "batch_input_gallery": fitted(unit.batch_input_gallery, clip.drawn)}
        )
    return unit


def _shown_one_by_one(unit: Any, folder: Path, script: Any, undo: ExitStack) -> Any:
    """A unit of a host that knows but one image for it (Classic, Neo since 2026): where the host asks for that one, it
    is given the images of a batch."""
    files = sorted(folder.iterdir())
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
    if hasattr(unit, "image_fg"):
        return {"image": picture, "image_fg": np.zeros((*picture.shape[:2], 4), np.uint8)}
    return {"image": {"image": picture, "mask": np.zeros_like(picture)}}


def built_in_modules(p: Any, prefix: str) -> list[str]:
    """The preprocessors of the built-in ControlNet's enabled units whose names begin so."""
    script = _script(p)
    if script is None or not _is_built_in(script):
        return []
    units = p.script_args[script.args_from : script.args_to]
    modules = (str(_field(unit, "module", "")) for unit in units if _is_enabled(unit))
    return [f"ControlNet's {module}" for module in modules if module.startswith(prefix)]


def hints_by_frame(p: Any, arrangement: Arrangement, undo: ExitStack, shown: Sequence[Shown | None] = ()) -> None:
    """While the job samples, hand each call of a control network the hints of its own rows, and let enabled units count
    in each frame, and IP-Adapters mix their pictures, as what they are ``shown`` says.

    Raises MotionError if the extension could not prepare its units, without which it goes on, for units whose frames
    cannot count differently, and for those that cannot go with the step cache.
    """
    script = _script(p)
    strengths = [None if own is None or own.mixed is not None else own.strengths for own in shown]
    mixed = any(own is not None and own.mixed is not None for own in shown)
    if script is not None and _is_built_in(script):
        units = script.get_enabled_units(list(p.script_args[script.args_from : script.args_to]))
        if len(getattr(script, "current_params", ())) < len(units):
            raise MotionError(NOT_PREPARED)
        if units and arrangement.windows.apart:
            _check_windows(script.current_params.values())
        if any(strengths):
            weigh_patchers(script, strengths, undo)
        if mixed:
            prompt_patchers(script, shown, arrangement, undo)
        return
    if script is None or not getattr(script, "enabled_units", None):
        return
    network = getattr(script, "latest_network", None)
    if network is None:
        raise MotionError(NOT_PREPARED)
    if any(strengths):
        weigh_networks(network.control_params, strengths, arrangement, undo)
    if mixed:
        prompt_networks(network.control_params, shown, arrangement, undo)
    fit_hints(network.control_params, arrangement, undo)
    if arrangement.cached:
        follow_cache(network.control_params, arrangement, undo)


def _check_windows(prepared: Iterable[Any]) -> None:
    """Raise MotionError for a unit of the Forge family's that cannot work on a clip in windows."""
    if any(type(params.model).__name__ == OF_WHOLE for params in prepared):
        raise MotionError(
            "ControlLLLite cannot work on a clip in windows in this WebUI: disable it, or set Motion's Context engine "
            "to Temporal attention"
        )


def _script(p: Any) -> Any:
    scripts = getattr(p.scripts, "alwayson_scripts", []) if p.scripts is not None else []
    return next((script for script in scripts if str(script.title()).casefold() == TITLE), None)


def _is_enabled(unit: Any) -> bool:
    return bool(_field(unit, "enabled", isinstance(unit, dict)))


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
