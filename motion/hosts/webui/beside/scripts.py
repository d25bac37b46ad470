"""Other scripts of the host that would draw something wrong on a clip: refused before anything is drawn.

A clip in windows (engine "denoiser") is several calls of the UNet in a step. What keeps something from one call for
another, by the place in the batch or by the count of calls, would mix up the frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from motion.errors import MotionError
from motion.hosts.webui.backends.base import option
from motion.hosts.webui.controlnet import units as controlnet
from motion.sampling.windows import Windows

CACHES = ("first block cache / teacache integrated",)
"""How the titles begin of scripts that leave out layers of the UNet themselves."""
OF_ONE_CALL = ("selfattentionguidance integrated", *CACHES)
"""How the titles begin of scripts that take the UNet's calls of a step for one; their first argument enables them."""
REFERENCE = "reference"
"""How the names of ControlNet's preprocessors begin that record a picture in one call for the next."""
REGIONAL_PROMPTER = ("regional prompter",)
"""How the title begins of the extension that counts the UNet's calls in a step, and tells rows by the batch's size."""
REORDERING = "Latent"
"""Its mode in which the frames' prompts come to the UNet in an order of its own."""
OF_SELF_ATTENTION = ("hypertile integrated", "perturbedattentionguidance", "selfattentionguidance", "stylealign")
"""How the titles begin of scripts that put something of their own in the place of the UNet's self-attention."""


def check(p: Any, windows: Windows, looks_at_others: bool = False, cached: bool = False) -> None:
    """Raise MotionError for a script that cannot go with this clip, in which frames look at others or do not, and
    layers are taken from earlier steps or not."""
    if looks_at_others:
        of_all = ["Hypertile"] if option("hypertile_enable_unet", False) else []
        for name in (*_enabled(p, OF_SELF_ATTENTION), *of_all):
            raise MotionError(f"{name} and cross-frame attention cannot go together: turn one of them off")
    if any(controlnet.built_in_modules(p, REFERENCE)) and not _references_find_rows():
        raise MotionError("ControlNet's reference units do nothing on the frames of a clip in this WebUI: disable them")
    if cached:
        for name in (*_enabled(p, (*CACHES, *REGIONAL_PROMPTER)), *controlnet.built_in_modules(p, REFERENCE)):
            raise MotionError(f"{name} and the step cache cannot go together: turn one of them off")
    for name, args in _enabled(p, REGIONAL_PROMPTER).items():
        if REORDERING in args:
            raise MotionError(f"{name}'s mode {REORDERING} mixes up the frames of a clip: set it to Attention")
    if not windows.apart:
        return
    for name in (*_enabled(p, (*OF_ONE_CALL, *REGIONAL_PROMPTER)), *controlnet.built_in_modules(p, REFERENCE)):
        raise MotionError(
            f"{name} cannot work on a clip in windows: disable it, or set Motion's Context engine to Temporal attention"
        )


def _enabled(p: Any, titles: Sequence[str]) -> dict[str, list[Any]]:
    """The titles of the enabled scripts whose title begins so, each with the script's arguments."""
    found: dict[str, list[Any]] = {}
    for script in getattr(p.scripts, "alwayson_scripts", []) if p.scripts is not None else []:
        title, args = str(script.title()), list(p.script_args[script.args_from : script.args_to])
        if title.casefold().startswith(tuple(titles)) and args and args[0] is True:
            found[title] = args
    return found


def _references_find_rows() -> bool:
    """Whether the host tells extensions which rows are a prompt's: reForge's sampler, alone of the family, does not."""
    name = "ldm_patched.modules.samplers"
    return find_spec("ldm_patched") is None or hasattr(import_module(name), "compute_cond_indices")
