"""The checkpoints and the motion module that a host is given: under the same names, whatever they are.

Where a host takes any width they are the bundled ones, which draw what they are asked for. Where it takes only SD1.5's
own they are random, of its width in the outermost level and no wider further in; they are made once for all runs.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from motion.models.motion.architecture import Architecture
from motion.models.motion.model import MotionModel
from motion.training.files import TEXT_FOLDER, save_image_model, save_motion_model, save_tensors
from motion.training.image import ImageModel, Widths
from sparsectrl.encoder import Shape, SparseEncoder

ROOT = Path(__file__).resolve().parents[3]
"""This repository."""
WEIGHTS = ROOT / "motion" / "demo" / "weights"
TOKENIZER = ROOT / "motion" / "hosts" / "data" / "clip"
MADE = Path(tempfile.gettempdir()) / "sd-webui-motion-random-models"

CHECKPOINT, OTHER, MODULE = "plain", "other", "moving"
"""Two checkpoints and a module that fits them."""
FULL_CHECKPOINT, FULL_MODULE = "full-size", "full-size-v3"
"""The same at SD1.5's full size. No name holds another: the page finds them by what they hold."""
STEPPED_CHECKPOINT, STEPPED_MODULE = "stepped", "stepped-v3"
"""The same in widths that grow as SD1.5's do, where a host takes them: for networks that count on it."""
RGB, SCRIBBLE, UNTRAINED = "keyed-rgb", "keyed-scribble", "keyed-untrained"
"""SparseCtrl encoders that fit them: random, and one with the zeros that training begins with."""
SMALL_DECODER = "taesd_decoder.pth"
"""What a host decodes with in place of the VAE if it is asked to."""
STRANGER = "not-a-motion-module"
"""The name under which a checkpoint lies among the motion modules."""
BUNDLED = {CHECKPOINT: "sprites", OTHER: "sprites-neon", MODULE: "sprites-motion"}

FULL = (320, 640, 1280, 1280)
NARROW = (320, 320, 320, 320)
STEPPED = (64, 128, 256, 256)
"""Channels of the UNet's levels."""
TEXT_WIDTH = 768


def lay_out(data: Path, any_width: bool) -> None:
    """Put models that a host takes into its data folder."""
    bundled = {name: WEIGHTS / file for name, file in BUNDLED.items()}
    files = bundled if any_width else random_models(NARROW, (CHECKPOINT, OTHER))
    place(data, files, config=any_width)
    if any_width:
        stepped = made_once("stepped", write_stepped)
        place(data, {name: stepped / name for name in (STEPPED_CHECKPOINT, STEPPED_MODULE)}, config=True)
    else:
        link(data / "models" / "VAE-taesd" / SMALL_DECODER, random_decoder())
    narrow = Widths()
    shape = (narrow.unet, narrow.text) if any_width else (NARROW, TEXT_WIDTH)
    for name, path in random_encoders(*shape).items():
        link(data / "models" / "motion" / f"{name}.safetensors", path)
    link(data / "models" / "motion" / f"{STRANGER}.safetensors", files[CHECKPOINT].with_suffix(".safetensors"))


def lay_out_full(data: Path, config: bool) -> None:
    """Put a random checkpoint of SD1.5's full size and a module for it there as well."""
    files = random_models(FULL, (CHECKPOINT,))
    place(data, {FULL_CHECKPOINT: files[CHECKPOINT], FULL_MODULE: files[MODULE]}, config)


def place(data: Path, files: Mapping[str, Path], config: bool) -> None:
    """Link files into a host's folders, of checkpoints also the .yaml if the host is to read a `config`."""
    for name, path in files.items():
        is_module = name in (MODULE, FULL_MODULE, STEPPED_MODULE)
        folder = data / "models" / ("motion" if is_module else "Stable-diffusion")
        link(folder / f"{name}.safetensors", path.with_suffix(".safetensors"))
        if config and not is_module:
            link(folder / f"{name}.yaml", path.with_suffix(".yaml"))


def link(where: Path, target: Path) -> None:
    where.parent.mkdir(parents=True, exist_ok=True)
    where.symlink_to(target)


def random_models(widths: tuple[int, ...], checkpoints: tuple[str, ...]) -> dict[str, Path]:
    """Random checkpoints and a random v3 module of these widths by name; their paths have no suffix."""

    def write(partial: Path, folder: Path) -> None:
        for seed, name in enumerate(checkpoints):
            write_checkpoint(partial / f"{name}.safetensors", widths, seed, folder / "clip")
        write_module(partial / f"{MODULE}.safetensors", "v3", widths)
        write_text_folder(partial / "clip")

    folder = made_once("-".join(map(str, widths)), write)
    return {name: folder / name for name in (*checkpoints, MODULE)}


def made_once(name: str, write: Callable[[Path, Path], None]) -> Path:
    """The folder of that name and of the code that makes it, made by `write(where, folder)` unless it is there."""
    sources = [function.__code__.co_filename for function in (made_once, write, save_tensors)]
    code = hashlib.sha256(b"".join(Path(source).read_bytes() for source in sources)).hexdigest()[:12]
    folder = MADE / f"{name}-{code}"
    if not folder.exists():
        MADE.mkdir(exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=MADE))
        write(partial, folder)
        partial.replace(folder)
    return folder


def write_checkpoint(path: Path, widths: tuple[int, ...], seed: int, text_folder: Path) -> None:
    """A random SD1.5 checkpoint under LDM names, and the .yaml by which a host finds its text encoder offline."""
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(block_out_channels=widths, cross_attention_dim=TEXT_WIDTH, attention_head_dim=8)
    save_image_model(ImageModel(unet, random_vae(), CLIPTextModel(text_config())), path, {})
    config = path.with_suffix(".yaml")
    config.write_text(config.read_text().replace(TEXT_FOLDER, str(text_folder)))


def write_stepped(partial: Path, _: Path) -> None:
    """A random checkpoint with the text encoder of the bundled ones, and a module for it."""
    torch.manual_seed(0)
    save_image_model(ImageModel.build(Widths(unet=STEPPED)), partial / f"{STEPPED_CHECKPOINT}.safetensors", {})
    write_module(partial / f"{STEPPED_MODULE}.safetensors", "v3", STEPPED)


def random_vae(**config: float) -> AutoencoderKL:
    """Of the size that Stable Diffusion's have."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, **config,
    )  # fmt: skip


def random_decoder() -> Path:
    """A random decoder in the layout of TAESD, whose frames differ as much as pictures do. One of a VAE's full size
    takes most of a test's time on the processor."""

    def write(partial: Path, _: Path) -> None:
        torch.manual_seed(2)
        layers = AutoencoderTiny().decoder.layers.requires_grad_(False)
        for layer in layers.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
        drawn, last = layers(torch.randn(16, 4, 8, 8)), layers[-1]
        gain = 0.25 / drawn.std()
        last.weight.mul_(gain)
        last.bias.sub_(drawn.mean()).mul_(gain).add_(0.5)
        clamp = nn.Identity()  # the first of TAESD's layers has no weights; diffusers keeps it outside
        torch.save(nn.Sequential(clamp, *layers).state_dict(), partial / SMALL_DECODER)

    return made_once("small-decoder", write) / SMALL_DECODER


def random_encoders(widths: tuple[int, ...], context: int) -> dict[str, Path]:
    """SparseCtrl encoders of these widths by name, for text of ``context`` channels."""
    shapes: dict[str, dict[str, Any]] = {RGB: {}, UNTRAINED: {}}
    shapes[SCRIBBLE] = {"condition": 3, "embedding": (16, 32, 96, 256)}

    def write(partial: Path, _: Path) -> None:
        for name, shape in shapes.items():
            write_encoder(partial / f"{name}.safetensors", Shape(widths, context, **shape), trained=name != UNTRAINED)

    folder = made_once(f"sparsectrl-{'-'.join(map(str, widths))}-{context}", write)
    return {name: folder / f"{name}.safetensors" for name in shapes}


def write_encoder(path: Path, shape: Shape, trained: bool) -> None:
    """A random SparseCtrl encoder under the authors' names, if it is to be ``trained`` with no layer at zero."""
    torch.manual_seed(1)
    encoder = SparseEncoder(shape)
    for parameter in encoder.parameters():
        if trained and not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    save_tensors(encoder.state_dict(), path, {})


def write_text_folder(folder: Path) -> None:
    """Tokenizer and shape of SD1.5's text encoder."""
    shutil.copytree(TOKENIZER, folder)
    text_config().save_pretrained(folder)


def write_module(path: Path, family: str, widths: tuple[int, ...]) -> None:
    """A random motion module in the family's layout, no layer of it at zero."""
    torch.manual_seed(0)
    module = MotionModel(Architecture.of_unet(family, widths))
    for layer in module.slots.values():
        nn.init.normal_(layer.proj_out.weight, std=0.02)
    save_motion_model(module, path, {})


def text_config() -> CLIPTextConfig:
    """SD1.5's, which is also SDXL's first."""
    return CLIPTextConfig(hidden_size=TEXT_WIDTH, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
