"""Sampling: from the noise of a batch of clips to their latents.

Latents and noise stay on the CPU; what a call of the UNet needs goes to the device with it, so that the device holds
one window at a time, however long the clips are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import motion
from motion import patching
from motion.animation import windowed
from motion.arrangement import Arrangement
from motion.hosts.standalone import samplers
from motion.hosts.standalone.prompts import Told
from motion.network.model import MotionModel
from motion.noise import noise_order, reinitialised
from motion.settings import Clip
from motion.windows import Windows

Progress = Callable[[int, int], None]
"""Called with (steps done, steps): with 0 when sampling begins, then after each step."""


@dataclass(frozen=True)
class Sampling:
    """Clips that are drawn in one batch by `unet`, which works on `device` in `dtype`."""

    unet: Any
    device: torch.device
    dtype: torch.dtype
    clips: Sequence[Clip]
    told: Told
    module: MotionModel | None
    windows: Windows

    def latents(self, progress: Progress | None = None) -> Tensor:
        """Latents of the finished clips, float32 `[(clips frames), 4, height/8, width/8]`."""
        clip = self.clips[0]
        betas = self.module.architecture.family.schedule(clip.betas) if self.module else samplers.STABLE_DIFFUSION
        generators = [made for one in self.clips for made in frame_generators(one, self.windows.frames)]
        noise = self._noise(generators)
        orders = [noise_order(one.noise, self.windows, one.seed) for one in self.clips]
        noise = noise[[clip * self.windows.frames + frame for clip, order in enumerate(orders) for frame in order]]
        with self._attached():
            for drawn in range(clip.freeinit):
                scheduler = samplers.scheduler(clip.sampler, betas, clip.steps)
                latents = self._denoise(scheduler, noise, generators, _later(progress, drawn, clip.freeinit))
                if drawn + 1 < clip.freeinit:
                    noise = self._again(latents, noise, generators, float(scheduler.alphas_cumprod[-1]))
        return latents

    @contextmanager
    def _attached(self) -> Iterator[None]:
        arrangement = Arrangement(self.windows)
        with ExitStack() as scope:
            if self.module is None:
                scope.enter_context(windowed(self.unet, arrangement))
            else:
                scale = self.clips[0].scale
                scope.enter_context(motion.attach(self.unet, self.module, arrangement.frames, scale, arrangement))
            scope.callback(patching.before(self.unet, self._tell(arrangement), with_kwargs=True))
            yield

    def _tell(self, arrangement: Arrangement) -> Callable[..., Any]:
        """The hook that gives each call of the UNet what its frames are told, and takes it to the device."""
        width, height = self.clips[0].size
        picture = torch.tensor([height, width, 0, 0, height, width], device=self.device)

        def tell(_: nn.Module, args: tuple[Tensor, Tensor], kwargs: dict[str, Any]) -> Any:
            rows, time = args
            condition = self.told.rows(arrangement.frame_numbers(len(rows)))
            added = None
            if condition.pooled is not None:
                added = {"text_embeds": condition.pooled, "time_ids": picture.expand(len(rows), -1).to(self.dtype)}
            told = {"encoder_hidden_states": condition.context, "added_cond_kwargs": added}
            return (rows.to(self.device, self.dtype), time), {**kwargs, **told}

        return tell

    def _noise(self, generators: Sequence[torch.Generator]) -> Tensor:
        size = self.clips[0].size
        shape = (self.unet.config.in_channels, size.height // 8, size.width // 8)
        return torch.stack([torch.randn(shape, generator=generator) for generator in generators])

    def _denoise(
        self, scheduler: Any, noise: Tensor, generators: Sequence[torch.Generator], progress: Progress
    ) -> Tensor:
        passes, cfg = len(self.told.mixes) // len(self.clips), self.clips[0].cfg
        latents, steps = noise * scheduler.init_noise_sigma, len(scheduler.timesteps)
        progress(0, steps)
        for done, t in enumerate(scheduler.timesteps, start=1):
            rows = scheduler.scale_model_input(latents, t).repeat(passes, 1, 1, 1)
            predicted = self.unet(rows, t, return_dict=False)[0].to("cpu", torch.float32)
            if passes == 2:
                unguided, guided = predicted.chunk(2)
                predicted = unguided + cfg * (guided - unguided)
            latents = scheduler.step(predicted, t, latents, generator=generators, return_dict=False)[0]
            progress(done, steps)
        return latents

    def _again(self, latents: Tensor, noise: Tensor, generators: Sequence[torch.Generator], alpha: float) -> Tensor:
        """The noise of FreeInit's next round, clip by clip."""
        count, kind = len(self.clips), self.clips[0].freeinit_filter
        rounds = zip(latents.chunk(count), noise.chunk(count), self._noise(generators).chunk(count), strict=True)
        return torch.cat([reinitialised(drawn, old, fresh, alpha, kind) for drawn, old, fresh in rounds])


def frame_generators(clip: Clip, frames: int) -> list[torch.Generator]:
    """For each frame the source of its initial noise, and then of whatever noise the sampler adds to it."""
    if clip.seed_mode == "frame":
        return [torch.Generator("cpu").manual_seed(clip.seed + frame) for frame in range(frames)]
    return [torch.Generator("cpu").manual_seed(clip.seed)] * frames


def _later(progress: Progress | None, drawn: int, times: int) -> Progress:
    """Counts the steps of one round among those of all."""

    def report(done: int, steps: int) -> None:
        if progress is not None and (done or not drawn):
            progress(drawn * steps + done, times * steps)

    return report
