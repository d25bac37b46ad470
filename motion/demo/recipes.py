"""The sprite world's program: what is trained on what and for how long, and the files it leaves.

Every stage keeps its state in the folder of the run, so that a killed program goes on where it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from motion.demo.clips import sprite_clips, sprite_stills
from motion.demo.world import FRAMES, LOOKS
from motion.hosts.standalone.text.emphasis import literal
from motion.hosts.standalone.text.tokens import chunks, clip_tokenizer
from motion.models.motion.architecture import FAMILIES, Architecture
from motion.models.motion.model import MotionModel
from motion.training.data import LatentClips
from motion.training.files import open_image_model, save_image_model, save_motion_model
from motion.training.image import IMAGE_BETAS, ImageModel, Stage, train_image
from motion.training.loop import Plan
from motion.training.motion_module import train_motion
from motion.training.vae import train_vae

SEED = 0
CLIPS = 2048
VAE_BATCH, IMAGE_BATCH, MOTION_BATCH = 24, 64, 4
VAE_CROPS = Plan(3500, 2e-3, seed=1)
VAE_WHOLE = Plan(2400, 1.5e-3, seed=2)
BOTH_SCHEDULES = (IMAGE_BETAS, FAMILIES["v3"].betas)
# A large model takes the noise levels of the motion module's schedule as they come; this one has to be shown them.
IMAGE = Stage("image", Plan(10000, 1e-3, warmup=300, ema=0.999, seed=3), BOTH_SCHEDULES)
PERSONAL = Stage("image-personal", Plan(2500, 6e-4, warmup=50, ema=0.998, seed=4), BOTH_SCHEDULES)
MOTION = Plan(11000, 1e-3, warmup=300, ema=0.999, seed=5)


def train_base(folder: Path, device: str, steps: int | None = None) -> Path:
    """Autoencoder, text encoder and UNet from nothing, on stills of the plain look -> ``sprites.safetensors``."""
    torch.manual_seed(SEED)
    model = ImageModel.build().to(device)
    # The autoencoder sees every look: a personal checkpoint changes what is drawn, not what can be drawn.
    train_vae(model.vae, lambda rng, count: sprite_stills(rng, count, LOOKS), (VAE_CROPS, VAE_WHOLE), VAE_BATCH, folder)
    clips = sprite_latents(model, "plain", folder)
    train_image(model, clips, replace(IMAGE, plan=shorten(IMAGE.plan, steps)), IMAGE_BATCH, folder)
    return save_image_model(model, folder / "sprites.safetensors", facts("image", look="plain"))


def train_personal(base: Path, look: str, folder: Path, device: str, steps: int | None = None) -> Path:
    """Text encoder and UNet of ``base`` tuned to another look on stills alone -> ``sprites-<look>.safetensors``."""
    model = open_image_model(base).to(device)
    stage = replace(PERSONAL, plan=shorten(PERSONAL.plan, steps), name=f"image-{look}")
    train_image(model, sprite_latents(model, look, folder), stage, IMAGE_BATCH, folder)
    return save_image_model(model, folder / f"sprites-{look}.safetensors", facts("image", look=look))


def train_sprite_motion(base: Path, folder: Path, device: str, steps: int | None = None) -> Path:
    """A motion module in the v3 layout on plain clips, ``base`` frozen -> ``sprites-motion.safetensors``."""
    torch.manual_seed(SEED)
    image = open_image_model(base).to(device)
    motion = MotionModel(Architecture.of_unet("v3", image.unet.config.block_out_channels)).to(device)
    plan = shorten(MOTION, steps)
    train_motion(image, motion, sprite_latents(image, "plain", folder), plan, MOTION_BATCH, folder)
    return save_motion_model(
        motion, folder / "sprites-motion.safetensors", facts("motion", steps=plan.steps, frames=FRAMES)
    )


def tokenize(captions: Sequence[str]) -> Tensor:
    """Captions -> token ids of the first 75 tokens, int64 ``[n, 77]``."""
    tokenizer = clip_tokenizer()
    rows = chunks(tokenizer, list(map(literal, captions)), tokenizer.eos_token_id)
    return torch.tensor([first.ids for first, *_ in rows])


def sprite_latents(model: ImageModel, look: str, folder: Path) -> LatentClips:
    """The world's training clips in the eyes of ``model``, encoded once in the folder of the run."""
    return sprite_clips(model.vae, tokenize, CLIPS, look, folder / f"latents-{look}.safetensors")


def shorten(plan: Plan, steps: int | None) -> Plan:
    """The plan with so many steps instead of its own, if a number is given."""
    return plan if steps is None else replace(plan, steps=steps)


def facts(recipe: str, **more: object) -> Mapping[str, str]:
    """What a file says of how it was made."""
    told = {"recipe": recipe, "data": "sprite world", "seed": SEED, **more}
    return {f"motion.{key}": str(value) for key, value in told.items()}
