"""The sprite world's program: what is trained on what and for how long, and the files it leaves.

Every stage keeps its state in the folder of the run, so that a killed program goes on where it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from motion.animation import attach
from motion.demo.world import FRAMES, LOOKS
from motion.hosts.standalone.tokens import chunks, clip_tokenizer
from motion.network.architecture import FAMILIES, Architecture
from motion.network.model import MotionModel
from motion.training.conditions import Condition
from motion.training.data import LatentClips, sprite_clips, sprite_stills, training_clip
from motion.training.files import open_image_model, save_image_model, save_motion_model, save_tensors
from motion.training.image import IMAGE_BETAS, TEXT_DROP, ImageModel, Stage, train_image
from motion.training.loop import Plan, train
from motion.training.motion_module import clip_loss, train_motion
from motion.training.sketch import sketch
from motion.training.sparse import Obeying, Shown, fresh_encoder
from motion.training.vae import train_vae
from motion.weights.checkpoint import load

SEED = 0
CLIPS = 2048
VAE_BATCH, IMAGE_BATCH, MOTION_BATCH, SPARSECTRL_BATCH = 24, 64, 4, 4
VAE_CROPS = Plan(3500, 2e-3, seed=1)
VAE_WHOLE = Plan(2400, 1.5e-3, seed=2)
BOTH_SCHEDULES = (IMAGE_BETAS, FAMILIES["v3"].betas)
# A large model takes the noise levels of the motion module's schedule as they come; this one has to be shown them.
IMAGE = Stage("image", Plan(10000, 1e-3, warmup=300, ema=0.999, seed=3), BOTH_SCHEDULES)
PERSONAL = Stage("image-personal", Plan(2500, 6e-4, warmup=50, ema=0.998, seed=4), BOTH_SCHEDULES)
MOTION = Plan(11000, 1e-3, warmup=300, ema=0.999, seed=5)
SPARSECTRL = Plan(6000, 5e-4, warmup=200, ema=0.999, seed=7)


def train_base(folder: Path, device: str, steps: int | None = None) -> Path:
    """Autoencoder, text encoder and UNet from nothing, on stills of the plain look -> ``sprites.safetensors``."""
    torch.manual_seed(SEED)
    model = ImageModel.build().to(device)
    # The autoencoder sees every look: a personal checkpoint changes what is drawn, not what can be drawn.
    train_vae(model.vae, lambda rng, count: sprite_stills(rng, count, LOOKS), (VAE_CROPS, VAE_WHOLE), VAE_BATCH, folder)
    clips = _clips(model, "plain", folder)
    train_image(model, clips, _shortened(IMAGE, steps), IMAGE_BATCH, folder)
    return save_image_model(model, folder / "sprites.safetensors", _metadata("image", look="plain"))


def train_personal(base: Path, look: str, folder: Path, device: str, steps: int | None = None) -> Path:
    """Text encoder and UNet of ``base`` tuned to another look on stills alone -> ``sprites-<look>.safetensors``."""
    model = open_image_model(base).to(device)
    stage = replace(_shortened(PERSONAL, steps), name=f"image-{look}")
    train_image(model, _clips(model, look, folder), stage, IMAGE_BATCH, folder)
    return save_image_model(model, folder / f"sprites-{look}.safetensors", _metadata("image", look=look))


def train_sprite_motion(base: Path, folder: Path, device: str, steps: int | None = None) -> Path:
    """A motion module in the v3 layout on plain clips, ``base`` frozen -> ``sprites-motion.safetensors``."""
    torch.manual_seed(SEED)
    image = open_image_model(base).to(device)
    motion = MotionModel(Architecture.of_unet("v3", image.unet.config.block_out_channels)).to(device)
    plan = MOTION if steps is None else replace(MOTION, steps=steps)
    train_motion(image, motion, _clips(image, "plain", folder), plan, MOTION_BATCH, folder)
    return save_motion_model(
        motion, folder / "sprites-motion.safetensors", _metadata("motion", steps=plan.steps, frames=FRAMES)
    )


def train_sprite_sparsectrl(
    base: Path, module: Path, condition: Condition, folder: Path, device: str, steps: int | None = None
) -> Path:
    """An encoder on plain clips, ``base`` and the motion ``module`` frozen, of a condition that is made of the frames
    -> ``sprites-sparsectrl-<condition>.safetensors``."""
    torch.manual_seed(SEED)
    image = open_image_model(base).to(device)
    image.freeze()
    motion = load(module).float().to(device)
    encoder = fresh_encoder(image.unet, motion, condition).to(device)
    clips = _clips(image, "plain", folder)
    plan = SPARSECTRL if steps is None else replace(SPARSECTRL, steps=steps)
    loss = clip_loss(image, motion.architecture.family.betas)
    name = f"sparsectrl-{condition.name}"
    with (
        attach(image.unet, motion, FRAMES),
        Obeying(image.unet, encoder, _shown(clips, condition), loss, condition.mixture) as loss_of,
    ):
        train(name, encoder, loss_of, plan, folder)
    told = _metadata("sparsectrl", steps=plan.steps, frames=FRAMES, condition=condition.kind)
    return save_tensors(encoder.state_dict(), folder / f"sprites-{name}.safetensors", told)


def _shown(clips: LatentClips, condition: Condition) -> Shown:
    """Draws clips, their captions, and what they show an encoder."""

    def draw(rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        chosen, tokens = clips.draw(rng, SPARSECTRL_BATCH, TEXT_DROP)
        latents = clips.latents[chosen]
        if condition.latent:
            return latents, tokens, latents
        sketches = np.stack([sketch(training_clip(int(number), "plain")) for number in chosen])
        return latents, tokens, torch.from_numpy(sketches).movedim(-1, -3).float() / 255

    return draw


def tokenize(captions: Sequence[str]) -> Tensor:
    """Captions -> token ids of the first 75 tokens, int64 ``[n, 77]``."""
    tokenizer = clip_tokenizer()
    return torch.tensor([rows[0] for rows in chunks(tokenizer, list(captions), tokenizer.eos_token_id)])


def _clips(model: ImageModel, look: str, folder: Path) -> LatentClips:
    return sprite_clips(model.vae, tokenize, CLIPS, look, folder / f"latents-{look}.safetensors")


def _shortened(stage: Stage, steps: int | None) -> Stage:
    return stage if steps is None else replace(stage, plan=replace(stage.plan, steps=steps))


def _metadata(recipe: str, **more: object) -> Mapping[str, str]:
    facts = {"recipe": recipe, "data": "sprite world", "seed": SEED, **more}
    return {f"motion.{key}": str(value) for key, value in facts.items()}
