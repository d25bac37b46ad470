"""The sprite world's program, second half: what is trained beside the motion module, base and module frozen.

SparseCtrl encoders learn from the world's clips; the domain adapter and the motion LoRAs from folders of a few of them,
as a user's do.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from motion.demo.clips import training_clip
from motion.demo.folder import write_folder
from motion.demo.recipes import SEED, facts, shorten, sprite_latents
from motion.demo.world import FRAMES, PIXELS
from motion.sampling.animation import attach
from motion.training import recipes
from motion.training.conditions import Condition
from motion.training.data import LatentClips
from motion.training.files import open_image_model, save_tensors
from motion.training.image import TEXT_DROP
from motion.training.loop import Plan, train
from motion.training.motion_module import clip_loss
from motion.training.run import Run
from motion.training.sparse import Obeying, Shown, amplify, fresh_encoder
from motion.video.sketch import sketch
from motion.weights.checkpoint import load

SPARSECTRL = Plan(6000, 5e-4, warmup=200, ema=0.999, seed=7)
SPARSECTRL_BATCH = 4
SPARSECTRL_GAINS = {"rgb": 2.5, "scribble": 4.0}
"""What a learned encoder's residuals are multiplied with: as they are, clips stop short of their keys, though the loss
is least. Chosen on training captions (``motion/demo/README.md``)."""
ADAPTER = replace(recipes.ADAPTER, steps=2000, learning_rate=2e-3, accumulate=1, ema=0.99, seed=8)
ADAPTER_RANK, ADAPTER_BATCH, MARKED_CLIPS = 32, 32, 200
LORA = replace(recipes.MOTION_LORA, steps=1000, learning_rate=2e-3, ema=0.99, seed=9)
LORA_RANK, LORA_BATCH, LORA_CLIPS = 16, 4, 50
CAMERA = ("pan-left", "pan-right", "zoom-in", "zoom-out")
"""The camera moves of the bundled motion LoRAs."""


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
    clips = sprite_latents(image, "plain", folder)
    plan = shorten(SPARSECTRL, steps)
    loss = clip_loss(image, motion.architecture.family.betas)
    name = f"sparsectrl-{condition.name}"
    with (
        attach(image.unet, motion, FRAMES),
        Obeying(image.unet, encoder, _draw_for(clips, condition), loss, condition.mixture) as loss_of,
    ):
        train(name, encoder, loss_of, plan, folder)
    gain = SPARSECTRL_GAINS[condition.made]
    amplify(encoder, gain)
    told = facts("sparsectrl", steps=plan.steps, frames=FRAMES, condition=condition.kind, gain=gain)
    return save_tensors(encoder.state_dict(), folder / f"sprites-{name}.safetensors", told)


def _draw_for(clips: LatentClips, condition: Condition) -> Shown:
    """Draws clips, their captions, and what they show an encoder."""

    def draw(rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        chosen, tokens = clips.draw(rng, SPARSECTRL_BATCH, TEXT_DROP)
        latents = clips.latents[chosen]
        if condition.latent:
            return latents, tokens, latents
        sketches = np.stack([sketch(training_clip(int(number), "plain")) for number in chosen])
        return latents, tokens, torch.from_numpy(sketches).movedim(-1, -3).float() / 255

    return draw


def train_sprite_adapter(base: Path, folder: Path, device: str, steps: int | None = None) -> Path:
    """A domain adapter that takes a watermark upon itself, from clips that all carry it ->
    ``sprites-adapter.safetensors``."""
    clips = write_folder(folder / "watermarked", MARKED_CLIPS, watermark=True)
    run = replace(_run(base, clips, folder / "adapter", device), rank=ADAPTER_RANK, batch=ADAPTER_BATCH)
    made = recipes.train_adapter(run, shorten(ADAPTER, steps))
    return Path(shutil.copy(made, folder / "sprites-adapter.safetensors"))


def train_sprite_lora(base: Path, module: Path, move: str, folder: Path, device: str, steps: int | None = None) -> Path:
    """A motion LoRA of a camera move over a few plain clips -> ``sprites-<move>.safetensors``."""
    clips = write_folder(folder / "clips", LORA_CLIPS)
    run = _run(base, clips, folder / move, device)
    run = replace(run, module=module, move=move, rank=LORA_RANK, batch=LORA_BATCH, debias=True)
    made = recipes.train_motion_lora(run, shorten(LORA, steps))
    return Path(shutil.copy(made, folder / f"sprites-{move}.safetensors"))


def _run(base: Path, clips: Path, out: Path, device: str) -> Run:
    return Run(base, clips, out, device, size=(PIXELS, PIXELS), frames=FRAMES, stride=1)
