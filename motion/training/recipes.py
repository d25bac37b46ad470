"""AnimateDiff's three recipes on a folder of clips: domain adapter, motion module, motion LoRA.

Source: Guo et al. 2023 (arXiv:2307.04725), section 4, and the authors' training configuration. All learn to predict the
noise by its mean squared error; a clip has one time step and fresh noise in each frame. Nothing is mirrored: that
would undo what a motion LoRA is to learn.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import motion
from motion.errors import MotionError
from motion.training.files import save_motion_model
from motion.training.image import IMAGE_BETAS, TEXT_DROP, loss_of_seed
from motion.training.loop import Plan
from motion.training.lora import LoraWeights, adapter_layers, motion_layers, save_lora
from motion.training.run import Run, attach, draw_clips, learn, metadata, noise_loss_of, open_module, prepare, sampler
from motion.weights.checkpoint import FAMILY_HINT

ADAPTER = Plan(4000, 1e-4, weight_decay=1e-2, accumulate=4)
MODULE = Plan(20000, 1e-4, weight_decay=1e-2)
MOTION_LORA = Plan(2000, 1e-4, weight_decay=1e-2)
"""Learning rates of the authors' configuration, lengths of a fine-tuning."""
ADAPTER_RANK, MOTION_RANK = 128, 64
"""Those of the published files."""


def train_adapter(run: Run, plan: Plan = ADAPTER) -> Path:
    """A LoRA of the image model's attention that takes the look of the clips' frames upon itself; a file's path."""
    run = replace(run, frames=1)
    data = prepare(run)
    unet = data.parts.unet
    torch.manual_seed(plan.seed)
    weights = LoraWeights(adapter_layers(unet), "image", run.rank or ADAPTER_RANK).to(run.device)

    def draw(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        latents, contexts = data.clips.stills(rng, run.batch, TEXT_DROP)
        return latents[:, None], contexts

    loss_of = loss_of_seed(draw, noise_loss_of(run, unet, IMAGE_BETAS))
    with motion.lora.attach(unet, None, [(weights.lora, 1.0)]):
        learn("adapter", weights, loss_of, plan, run, sampler(run, data, IMAGE_BETAS))
    return save_lora(weights, run.out / "adapter.safetensors", metadata("adapter", run, plan, data.digest))


def train_motion_module(run: Run, plan: Plan = MODULE) -> Path:
    """Every temporal layer, from `run.module` on or from nothing (v3's layout); a file's path."""
    data = prepare(run)
    torch.manual_seed(plan.seed)
    module = open_module(run, data.parts).train().requires_grad_(True)
    betas = module.architecture.family.betas
    loss_of = loss_of_seed(draw_clips(run, data), noise_loss_of(run, data.parts.unet, betas))
    with ExitStack() as scope:
        attach(scope, run, data.parts, module)
        learn("motion", module, loss_of, plan, run, sampler(run, data, betas))
    return save_motion_model(module, run.out / "motion.safetensors", metadata("motion", run, plan, data.digest))


def train_motion_lora(run: Run, plan: Plan = MOTION_LORA) -> Path:
    """A LoRA of the temporal attention of `run.module`; a file's path."""
    if run.module is None:
        raise MotionError("a motion LoRA is trained on a motion module: give one with --motion")
    data = prepare(run)
    unet, module = data.parts.unet, open_module(run, data.parts)
    family = module.architecture.family
    torch.manual_seed(plan.seed)
    weights = LoraWeights(motion_layers(module), "motion", run.rank or MOTION_RANK).to(run.device)
    loss_of = loss_of_seed(draw_clips(run, data), noise_loss_of(run, unet, family.betas))
    with ExitStack() as scope:
        attach(scope, run, data.parts, module)
        active = scope.enter_context(ExitStack())

        def step(seed: int) -> Tensor:
            active.close()  # only now: the backward pass may compute layers a second time
            active.enter_context(motion.lora.attach(unet, module, [(weights.lora, 1.0)]))
            return loss_of(seed)

        learn("motion-lora", weights, step, plan, run, sampler(run, data, family.betas))
    facts = {FAMILY_HINT: family.name, **metadata("motion-lora", run, plan, data.digest)}
    return save_lora(weights, run.out / "motion-lora.safetensors", facts)
