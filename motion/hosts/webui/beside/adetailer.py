"""ADetailer, where the WebUI has it: its detectors find what is drawn anew in the frames of a clip.

It is an extension with a package of its own, whose script is asked as its user would: nothing of it is loaded here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from motion.errors import MotionError
from motion.hosts.controls import Pixels
from motion.hosts.webui.backends.base import host_module

SCRIPT = "!adetailer"
"""Its file, without the suffix."""
NEEDED = ("model_mapping", "ultralytics_predict", "mediapipe_predict", "disable_safe_unpickle", "AfterDetailerScript")
"""What of its script is used."""
OF_MEDIAPIPE = "mediapipe"
"""How the names of detectors begin that are no files."""
CONFIDENCE = 0.3
"""From where on it counts what it finds, unless its user says otherwise."""


def detect(name: str, frames: Iterable[Pixels]) -> Iterator[Pixels]:
    """What ADetailer's detector of that ``name`` finds in each frame, uint8 ``[height, width]``, 255 in all of it.

    A frame in which it misses what it has found before has the mask of that frame, and those before the first the
    first's. Raises MotionError where there is no ADetailer, or none of that kind, and where it finds nothing at all.
    """
    predict, missed, last = _detector(name), 0, None
    for frame in frames:
        masks = [np.asarray(mask.convert("L")) for mask in predict(Image.fromarray(frame)).masks]
        if masks:
            last = np.maximum.reduce(masks)
        elif last is None:
            missed += 1
            continue
        yield from [last] * (1 + missed)
        missed = 0
    if last is None:
        raise MotionError(f"ADetailer's {name} finds nothing in {missed} frames: choose another detector, or no masks")


def _detector(name: str) -> Callable[[Any], Any]:
    """What is asked for a picture."""
    module = _script()
    models = module.model_mapping
    if name not in models:
        raise MotionError(f"ADetailer has no detector {name!r:.60}: choose one of {', '.join(models)}")
    if name.startswith(OF_MEDIAPIPE):
        return lambda picture: module.mediapipe_predict(name, picture, CONFIDENCE)
    device = module.AfterDetailerScript.get_ultralytics_device()

    def predict(picture: Any) -> Any:
        with module.disable_safe_unpickle():  # its models are whole objects, which its user has chosen
            return module.ultralytics_predict(models[name], image=picture, confidence=CONFIDENCE, device=device)

    return predict


def _script() -> Any:
    """ADetailer's script. Raises MotionError where there is none, or another than is known."""
    loaded = {Path(data.path).stem: data.module for data in host_module("scripts").scripts_data}
    if SCRIPT not in loaded:
        raise MotionError(
            "masks are to be found by ADetailer, which this WebUI has not: install it, or give a Mask clip"
        )
    script = loaded[SCRIPT]
    if any(not hasattr(script, name) for name in NEEDED):
        raise MotionError("this ADetailer cannot be asked for masks: update it, or give a Mask clip")
    return script
