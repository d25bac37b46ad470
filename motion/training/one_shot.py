"""One-shot tuning: an image model learns how one clip moves (Wu et al. 2022, "Tune-A-Video", arXiv:2212.11565)."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor

import motion
from motion.errors import MotionError
from motion.hosts.source import Source as ClipSource
from motion.hosts.standalone.networks.networks import Networks
from motion.models import sites
from motion.models.one_shot import OneShotModel
from motion.training.files import save_tensors
from motion.training.folder import Source
from motion.training.image import IMAGE_BETAS, loss_of_seed
from motion.training.loop import Plan
from motion.training.run import Run, learn, metadata, noise_loss_of, prepare, sampler

ONE_SHOT = Plan(500, 3e-5, warmup=1, weight_decay=1e-2)
"""The authors' configuration."""


def train_one_shot(run: Run, prompt: str, plan: Plan = ONE_SHOT) -> Path:
    """The queries of the image model's attention, and attention along the frames, learn the clip `run.data`, of which
    `prompt` says what it shows; a file's path.

    It learns the first `run.frames` of every `run.stride`-th of the clip's frames, the same ones in each step. Raises
    MotionError for what is no clip, or does not move.
    """
    if run.frames < 2 or ClipSource(run.data).measure(2).frames < 2:
        raise MotionError(f"{run.data} shows one frame: one-shot tuning learns how a clip moves, give at least 2")
    data = prepare(run, Source(run.data, ", ".join(filter(None, (run.trigger, prompt)))))
    unet = data.parts.unet
    torch.manual_seed(plan.seed)
    model = OneShotModel.of_blocks(sites.spatial_blocks(unet)).to(run.device).thaw()
    loss_of = loss_of_seed(lambda rng: data.clips.clips(rng, run.batch, 0.0), noise_loss_of(run, unet, IMAGE_BETAS))
    draw = sampler(run, data, IMAGE_BETAS, Networks(one_shot=model))
    with ExitStack() as active:

        def step(seed: int) -> Tensor:
            active.close()  # only now: the backward pass may compute layers a second time
            active.enter_context(motion.one_shot.attach(unet, model, run.frames))
            return loss_of(seed)

        def sample(done: int) -> None:
            active.close()
            draw(done)

        learn("one-shot", model, step, plan, run, sample)
    told = metadata("one-shot", run, plan, data.digest, prompt=data.sources[0].caption)
    return save_tensors(model.state_dict(), run.out / "one-shot.safetensors", told)
