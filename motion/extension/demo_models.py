"""The bundled models where the host looks for its own: a first clip without a download."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from motion.errors import MotionError
from motion.extension.models import folders
from motion.hosts.webui.backends.base import host_module
from motion.settings.parameters import infotext
from motion.settings.settings import FIELDS, Clip
from motion.weights.bundled import DEMO, WEIGHTS

TOKENIZER = Path(__file__).parents[1] / "hosts" / "data" / "clip"
ENCODER = WEIGHTS / "sprites-sparsectrl-rgb.safetensors"
"""What key frames take."""


def place() -> str:
    """Copy the bundled checkpoint, its motion module and its encoder into the host's folders, and let it know; the
    checkpoint's name. Raises MotionError if that cannot be written."""
    checkpoint = Path(DEMO["checkpoint"])
    target = Path(host_module("paths").models_path) / "Stable-diffusion" / checkpoint.name
    try:
        _copy(checkpoint, target)
        for file in (Path(DEMO["motion"]), ENCODER):
            _copy(file, folders()[0] / file.name)
        # The host would look for the tokenizer where the extension usually lies.
        config = checkpoint.with_suffix(".yaml").read_text(encoding="utf-8")
        own = json.dumps(str(TOKENIZER))
        target.with_suffix(".yaml").write_text(re.sub(r"(version: ).*", lambda m: m[1] + own, config), encoding="utf-8")
    except OSError as error:
        raise MotionError(f"{error.filename} cannot be written ({error.strerror}): free some room") from error
    host_module("sd_models").list_models()
    return checkpoint.name


def parameters() -> str:
    """The infotext of a clip that suits these models."""
    fields = {name: FIELDS[name].parse(DEMO[name]) for name in ("prompt", "size", "steps", "cfg")}
    return infotext(Clip(**fields), {"Motion module": Path(DEMO["motion"]).stem})


def _copy(file: Path, target: Path) -> None:
    if target.is_file() and target.stat().st_size == file.stat().st_size:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    shutil.copyfile(file, partial)
    partial.replace(target)
