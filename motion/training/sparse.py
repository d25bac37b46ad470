"""SparseCtrl's recipe: an encoder learns to make a frozen image model and its motion module obey key images.

Source: Guo et al. 2023, "SparseCtrl" (arXiv:2311.16933), section 3. Their trainer was never released; what the paper
leaves open is that of ControlNet (Zhang et al. 2023, arXiv:2302.05543) and of the motion recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import sparsectrl
from motion.errors import MotionError
from motion.fields.weighted import Weighted
from motion.hosts.controls import Control
from motion.hosts.standalone import processes
from motion.hosts.standalone.networks.networks import Networks
from motion.models.motion.model import MotionModel
from motion.training import masks
from motion.training.conditions import Condition, pictures
from motion.training.files import save_tensors
from motion.training.image import TEXT_DROP, Loss
from motion.training.loop import Plan
from motion.training.run import (
    Run,
    attach,
    cache,
    digest,
    learn,
    metadata,
    noise_loss_of,
    open_module,
    prepare,
    sampler,
)
from sparsectrl.encoder import Shape, SparseEncoder

SPARSECTRL = Plan(20000, 1e-4, weight_decay=1e-2)
"""The motion module's; the authors' length is not published."""
EMBEDDING = (16, 32, 96, 256)
"""Widths of the authors' convolutions from pixels to latents' size; in a narrow model none is wider than the UNet."""
OWN = ("controlnet_", ".motion_modules.")
"""In the names of what an encoder has for itself: embedding of the condition, zero convolutions, temporal layers."""

Shown = Callable[[np.random.Generator], tuple[Tensor, Tensor, Tensor]]
"""Draws what `motion.training.image.Draw` does, and what the frames show the encoder, ``[n, frames, C, H, W]``."""


def train_sparsectrl(run: Run, condition: Condition, plan: Plan = SPARSECTRL) -> Path:
    """An encoder for the run's motion module; a file's path. Raises MotionError without a module, and as `prepare`."""
    if run.module is None:
        raise MotionError("a SparseCtrl encoder is trained beside a motion module: give one with --motion")
    data = prepare(run)
    shown = condition.images_for(data.sources)
    if not condition.latent:
        with processes.team(run.device).main_process_first():
            images = pictures(condition, data.sources, data.clips.files, cache(run), run.size)
        data = replace(data, clips=replace(data.clips, images=images))
    unet, module = data.parts.unet, open_module(run, data.parts)
    betas = module.architecture.family.betas
    torch.manual_seed(plan.seed)
    encoder = fresh_encoder(unet, module, condition).to(run.device)
    first = condition.images(shown[0], run.size)[0]
    control = Control(Path("the encoder in training"), {0: first}, encoder=encoder)
    sample = sampler(run, data, betas, Networks(controls=[control]))
    draw = partial(data.clips.draw_with_images, count=run.batch, text_drop=TEXT_DROP)
    with ExitStack() as scope:
        attach(scope, run, data.parts, module)
        loss_of = scope.enter_context(Obeying(unet, encoder, draw, noise_loss_of(run, unet, betas), condition.mixture))
        learn("sparsectrl", encoder, loss_of, plan, run, loss_of.resting(sample))
    facts = {"condition": condition.kind, "masks": ", ".join(map(str, condition.mixture))}
    told = metadata("sparsectrl", run, plan, digest([*data.sources, *shown]), **facts)
    return save_tensors(encoder.state_dict(), run.out / "sparsectrl.safetensors", told)


def fresh_encoder(unet: Any, module: MotionModel, condition: Condition) -> SparseEncoder:
    """An encoder for ``unet`` beside ``module`` that adds nothing yet; its parameters that learn require gradients.

    Encoder half and middle are copies of the UNet's, temporal layers of the module's first attentions; where the module
    has none they add nothing at first. Raises MotionError if ``unet`` lacks a layer.
    """
    config, widths = unet.config, tuple(unet.config.block_out_channels)
    tables = [slot.positions for slot in module.architecture.slots if slot.name.startswith("down_blocks.")]
    encoder = SparseEncoder(
        Shape(
            widths=widths,
            context=config.cross_attention_dim,
            condition=4 if condition.latent else 3,
            embedding=() if condition.latent else tuple(min(width, widths[0]) for width in EMBEDDING),
            temporal=not condition.per_frame,
            positions=tables[0] if tables else 32,
            layers=config.layers_per_block,
        )
    )
    state, known = encoder.state_dict(), {**module.state_dict(), **unet.state_dict()}
    copied = {name: known[name] for name in state if name in known}
    missing = next((name for name in state if name not in copied and not _is_own(name)), None)
    if missing is not None:
        raise MotionError(f"the checkpoint has no {missing}: give an SD1.5 checkpoint")
    encoder.load_state_dict(state | copied)
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(not condition.small or _is_own(name))
    return encoder.train()


def amplify(encoder: SparseEncoder, gain: float) -> None:
    """Multiply all that ``encoder`` adds, as a key frame scale of ``gain`` would: by the zero convolutions that it
    leaves through."""
    with torch.no_grad():
        for layer in (*encoder.controlnet_down_blocks, encoder.controlnet_mid_block):
            for parameter in layer.parameters():
                parameter.mul_(gain)


def _is_own(name: str) -> bool:
    return any(part in name for part in OWN)


class Obeying(AbstractContextManager["Obeying"]):
    """The loss of a step, given its seed: the UNet obeys key frames that are drawn for each clip.

    It obeys them until the next step: the backward pass may compute layers a second time.
    """

    def __init__(
        self, unet: nn.Module, encoder: SparseEncoder, draw: Shown, loss: Loss, mixture: Sequence[Weighted]
    ) -> None:
        self.unet, self.encoder, self.draw, self.loss, self.mixture = unet, encoder, draw, loss, mixture
        self.attached = ExitStack()

    def __call__(self, seed: int) -> Tensor:
        self.attached.close()
        rng = np.random.default_rng(seed)
        latents, texts, shown = self.draw(rng)
        frames = shown.shape[1]
        keys = [masks.draw(self.mixture, frames, rng) for _ in shown]
        conditions = torch.stack(
            [
                sparsectrl.condition({key: clip[key] for key in chosen}, frames)
                for clip, chosen in zip(shown, keys, strict=True)
            ]
        )
        self.attached.enter_context(sparsectrl.attach(self.unet, self.encoder, conditions, frames))
        return self.loss(rng, latents, texts)

    def resting(self, after: Callable[[int], None]) -> Callable[[int], None]:
        """``after`` with a UNet that obeys nothing."""

        def rest(done: int) -> None:
            self.attached.close()
            after(done)

        return rest

    def __exit__(self, *_: object) -> None:
        self.attached.close()
