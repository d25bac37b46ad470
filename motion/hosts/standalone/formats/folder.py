"""An image model in a diffusers folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from motion.errors import MotionError
from motion.hosts.standalone.formats.refusals import REMEDY, SCHEDULERS, check_unet
from motion.hosts.standalone.parts import Base, Parameterization, Parts, State, TextEncoder
from motion.hosts.standalone.vae import build_vae
from motion.weights.paths import SUFFIXES

INDEX = "model_index.json"
_VOCABULARIES = ("tokenizer.json", "vocab.json")
PIPELINES: dict[str, Base] = {
    "StableDiffusionPipeline": "sd15",
    "StableDiffusionImg2ImgPipeline": "sd15",
    "StableDiffusionInpaintPipeline": "sd15",
    "StableDiffusionXLPipeline": "sdxl",
    "StableDiffusionXLImg2ImgPipeline": "sdxl",
    "StableDiffusionXLInpaintPipeline": "sdxl",
}
ENCODERS = {"sd15": {"": CLIPTextModel}, "sdxl": {"": CLIPTextModel, "_2": CLIPTextModelWithProjection}}
_WEIGHTS = re.compile(
    r"(?:(?:diffusion_)?pytorch_)?model(?:\.(?P<variant>\w+))?(?:-\d+-of-\d+)?\.(?P<suffix>safetensors|bin)"
)
"""What diffusers and transformers call a component's weights; other programs' lie beside them (OpenVINO's)."""


def open_folder(path: Path, vae: State | None) -> Parts:
    """The parts in the diffusers folder at `path`, with the autoencoder `vae` if there is one.

    Raises MotionError, as the end of a sentence, naming what the folder is instead or lacks.
    """
    base, parameterization = _base(path), _parameterization(path / "scheduler" / "scheduler_config.json")
    with no_progress_bars():
        unet = _component(UNet2DConditionModel, path, "unet")
        check_unet(unet.config, base)
        encoders = tuple(_encoder(kind, path, suffix) for suffix, kind in ENCODERS[base].items())
        own = build_vae(vae, base == "sdxl") if vae else _component(AutoencoderKL, path, "vae")
    return Parts(base, unet, own, encoders, parameterization)


def _base(path: Path) -> Base:
    if not (path / INDEX).is_file():
        raise MotionError(f"is a folder without {INDEX}: {_instead(path)}")
    name = _json(path / INDEX).get("_class_name")
    if name not in PIPELINES:
        raise MotionError(f"holds a {name}: {REMEDY}")
    return PIPELINES[name]


def _instead(path: Path) -> str:
    """What somebody meant who names a folder that is no model."""
    if (path.resolve().parent / INDEX).is_file():
        return f"give the folder above it, {path.resolve().parent}"
    below = sorted(path.glob(f"snapshots/*/{INDEX}"))
    if below:
        return f"give the model's own folder, {below[-1].parent}"
    files = sorted(file.name for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    return f"give a diffusers folder or a checkpoint file{f', such as {path / files[0]}' if files else ''}"


def _parameterization(config: Path) -> Parameterization:
    told = _json(config) if config.is_file() else {}
    name, prediction = str(told.get("_class_name")), told.get("prediction_type") or "epsilon"
    for beginning, what in SCHEDULERS.items():
        if name.startswith(beginning):
            raise MotionError(f"is {what}: {REMEDY}")
    if prediction not in ("epsilon", "v_prediction"):
        raise MotionError(f"is a model that predicts {prediction!r}: {REMEDY}")
    if prediction == "epsilon":
        return Parameterization()
    return Parameterization("v_prediction", bool(told.get("rescale_betas_zero_snr")))


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise MotionError(f"has a damaged {path.name}: download it again") from error


def _encoder(kind: Any, path: Path, suffix: str) -> TextEncoder:
    model = _component(kind, path, f"text_encoder{suffix}")
    folder = f"tokenizer{suffix}"
    if not any((path / folder / name).is_file() for name in _VOCABULARIES):  # transformers 5 makes one of two words
        raise MotionError(f"has no vocabulary in its folder {folder!r}, so it is not a whole model: download it again")
    tokenizer = CLIPTokenizer.from_pretrained(path, subfolder=folder, local_files_only=True)
    return TextEncoder(tokenizer, model, tokenizer.pad_token_id)


def _component(kind: Any, path: Path, subfolder: str) -> Any:
    names = filter(None, (_WEIGHTS.fullmatch(file.name) for file in (path / subfolder).glob("*")))
    found = min(((name["suffix"] == "bin", name["variant"] or "") for name in names), default=None)
    if found is None:
        raise MotionError(f"has no weights in its folder {subfolder!r}, so it is not a whole model: download it again")
    pickled, variant = found
    options = {"variant": variant or None, "use_safetensors": not pickled, "local_files_only": True}
    model = kind.from_pretrained(path, subfolder=subfolder, **options)
    return model.eval().requires_grad_(False)


@contextmanager
def no_progress_bars() -> Iterator[None]:
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
