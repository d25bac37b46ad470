"""Sampling: from the noise of a batch of clips to their latents.

Latents and noise stay on the CPU. Those of a step go to the device in one piece, and its predictions come back in one;
of a very long clip each call of the UNet takes what it needs, so that the device holds one window at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from motion.hosts.controls import check_effects, given_latents
from motion.hosts.source import Source
from motion.hosts.standalone import samplers
from motion.hosts.standalone.device import fetched
from motion.hosts.standalone.generators import frame_generators, twin_generators
from motion.hosts.standalone.guidance import Guidance, NoiseLevel, inverted, join
from motion.hosts.standalone.networks.networks import Networks
from motion.hosts.standalone.parts import LATENT_CHANNELS, Parts
from motion.hosts.standalone.scope import Scope
from motion.hosts.standalone.source import Kept, inpainting_channels, kept_by_mask, noise_source
from motion.hosts.standalone.text.prompts import FrameConditioning
from motion.hosts.standalone.vae import encode, encode_frames, pictures_of
from motion.hosts.standalone.windows import GUIDED_AT_ONCE, HELD_AT_ONCE, rows_at_once
from motion.hosts.standalone.work import Progress, SamplingRun, Work
from motion.sampling.arrangement import Arrangement
from motion.sampling.casting import send
from motion.sampling.sharing import ALONE, Sharing
from motion.sampling.step_cache import is_whole
from motion.sampling.windows import Windows
from motion.settings.curves import still_of
from motion.settings.settings import Clip
from motion.settings.step_cache import INTERVALS
from motion.techniques.ddim_inversion import EVALUATIONS
from motion.techniques.registry import techniques_of
from motion.techniques.technique import Detour, Moment, Pass, Round, Techniques, Turn


@dataclass(frozen=True)
class Sampling:
    """Clips that are drawn in one batch by the UNet of `parts`, which works on `device` in `dtype`."""

    parts: Parts
    device: torch.device
    dtype: torch.dtype
    clips: Sequence[Clip]
    windows: Windows
    conditioning: FrameConditioning
    networks: Networks
    source: Source | None = None
    """The clip that they are made of, or that a mask keeps a part of."""
    noise: Tensor | None = None
    """What they begin with instead of the seeds' noise, `[(clips frames), 4, height/8, width/8]`."""
    first_pass: Tensor | None = None
    """What they are drawn anew from in place of the source's frames, `[clips, clip's frames, 4, height/8, width/8]`."""
    sharing: Sharing = ALONE
    """The processes that each compute some of the windows."""
    sparing: bool = False
    """As `Standalone.sparing`."""

    def latents(self, progress: Progress | None = None, work: Work | None = None) -> Tensor:
        """Latents of the finished clips, float32 `[(clips frames), 4, height/8, width/8]`.

        With `work` they are kept before each step that takes over nothing, and begin where they were kept.
        """
        run, rounds = self._start(), self.techniques.rounds
        steps, report = len(run.scheduler.timesteps), progress or (lambda done, steps: None)
        with self.scope.enter(run):
            if work is not None:
                work.resume(run)
            run.agree(self.sharing)
            report(run.drawn * steps + run.done, rounds * steps)
            while True:
                for t in run.scheduler.timesteps[run.done :]:
                    self._step(run, t)
                    run.count_together(self.sharing)
                    if self.sharing.leads and run.done in (1, steps):  # early enough, and at the end: this waits
                        check_effects(self.networks.controls, ended=run.done == steps)
                    if work is not None and is_whole(INTERVALS[self.clips[0].cache], run.done, steps):
                        work.keep(run)
                    report(run.drawn * steps + run.done, rounds * steps)
                if run.drawn + 1 == rounds:
                    return run.latents
                self._begin_again(run)

    def inverted(self, latents: Tensor, evaluations: int) -> Tensor:
        """The noise from which the clips would be drawn by their prompts alone, of their latents; as `latents`."""
        x, _, scheduler = self._gone_back(latents, evaluations)
        return x * samplers.levels(self.clips[0].sampler, scheduler).scales[0] / scheduler.init_noise_sigma

    def noise_in(self, latents: Tensor) -> Tensor:
        """The noise with which they would be drawn anew as themselves, as far as the strength says; as `latents`."""
        steps = len(self._scheduler().timesteps)
        x, sigma, _ = self._gone_back(latents, EVALUATIONS, self.clips[0].first_step(steps))
        return (x - latents) / sigma

    def _gone_back(self, latents: Tensor, evaluations: int, first: int = 0) -> tuple[Tensor, float, Any]:
        """See `inverted`; and the scheduler."""
        run, call = self._start(), partial(self._called_alone, conditioning=self.conditioning)
        with self.scope.enter(run):
            return *inverted(run.scheduler, first, latents, call, evaluations), run.scheduler

    @cached_property
    def techniques(self) -> Techniques:
        """Those that the clips ask for."""
        return techniques_of(self.clips[0])

    @cached_property
    def guidance(self) -> Guidance:
        """What becomes of the predictions of a step."""
        clip, given = self.clips[0], {}
        if self.techniques.ask("takes_given"):
            given = given_latents(self.networks.controls, partial(encode, self.parts.vae), clip.key_fit, clip.size)
        pictures = pictures_of(self.parts.vae)
        return Guidance(self.techniques, clip.cfg, clip.frames, given, pictures, self.kept_by_mask)

    @cached_property
    def kept_by_mask(self) -> Kept | None:
        """What stays of the source."""
        return kept_by_mask(self.source, self.clips[0], self.parts.vae, self.windows.frames)

    @cached_property
    def scope(self) -> Scope:
        """What they are drawn in."""
        beside = None
        if self.parts.inpaints:
            beside = inpainting_channels(self.source, self.clips[0], self.parts.vae, self.windows.frames)
        networks = self.networks.stored_as(self.parts.unet, self.device, self.dtype)
        return Scope(self.parts, self.device, self.dtype, self.clips[0], networks, self.guidance, beside)

    def _start(self) -> SamplingRun:
        generators = [made for clip in self.clips for made in frame_generators(clip, self.windows.frames)]
        if (noise := self.noise) is None:
            pairs = zip(self._noise(generators).chunk(len(self.clips)), self.clips, strict=True)
            noise = torch.cat([self.techniques.begin(drawn, self.windows, clip.seed) for drawn, clip in pairs])
        if self.clips[0].step_noise == "constant":
            generators = [twin for clip in self.clips for twin in twin_generators(clip, self.windows.frames)]
        scheduler = self._scheduler()
        at_once = None if self.networks.act_by_row(self.clips[0]) else rows_at_once(self.windows, self.sparing)
        arrangement = Arrangement(self.windows, rows_at_once=at_once, sharing=self.sharing)
        kept = noise if self.techniques.rounds > 1 else None
        run = SamplingRun(scheduler, arrangement, generators, kept, noise)
        levels = samplers.levels(self.clips[0].sampler, scheduler)
        if (way := self.techniques.detour(levels.times)) is not None:
            run.latents, run.done = self._turned(way, levels), way.back
        else:
            self._put_beginning(run, noise)
        return run

    def _put_beginning(self, run: SamplingRun, noise: Tensor) -> None:
        """Let the run begin with this noise, and with what is drawn anew in it."""
        if self.source is None and self.first_pass is None:
            run.latents, run.done = noise * run.scheduler.init_noise_sigma, 0
            return
        levels = samplers.levels(self.clips[0].sampler, run.scheduler)
        run.done = self.clips[0].first_step(len(levels.times))
        if run.noise is not None or self.noise is not None:
            noise = noise.clone()  # else latents take its place: a long clip's are large
        by_clip = rearrange(noise, "(n f) c h w -> n f c h w", n=len(self.clips))
        run.latents = noise_source(self._beginning(), by_clip, levels, run.done).flatten(0, 1)

    def _beginning(self) -> Iterable[Tensor]:
        """Of what they are drawn anew from, a few frames at a time."""
        if self.first_pass is not None:
            return [self.first_pass]
        assert self.source is not None
        if self.kept_by_mask is not None:
            return [self.kept_by_mask.latents]
        clip = self.clips[0]
        return encode_frames(self.parts.vae, self.source.frames(clip.frames, clip.size))

    def _turned(self, way: Detour, levels: samplers.Levels) -> Tensor:
        """What the clips go on from where they go back on their way; the first frames are drawn by themselves."""
        stills, frames = [still_of(clip) for clip in self.clips], self.clips[0].frames
        networks = self.networks.of_first(frames)
        alone, entered = replace(self, windows=Windows(1), clips=stills, networks=networks), []
        first = alone._start()
        with alone.scope.enter(first):
            for t in first.scheduler.timesteps[: way.before]:
                entered.append(first.latents)
                alone._step(first, t)
        entered.append(first.latents)
        of_clips = zip(
            self.clips, *((entered[step] / levels.scales[step]).chunk(len(stills)) for step in way), strict=True
        )
        sigmas, drawn = (levels.sigmas[way.back], levels.sigmas[way.before]), self.windows.frames
        turns = [Turn(back, before, sigmas, drawn, clip.seed, self._fresh) for clip, back, before in of_clips]
        return torch.cat(list(map(self.techniques.turn, turns))) * levels.scales[way.back]

    def _scheduler(self) -> Any:
        clip, betas = self.clips[0], samplers.betas_of(self.clips[0], self.networks.module)
        return samplers.scheduler(clip.sampler, betas, clip.steps, clip.spacing, self.parts.parameterization)

    def _step(self, run: SamplingRun, t: Tensor) -> None:
        run.arrangement.step_begins(run.done, len(run.scheduler.timesteps))
        predicted = self._predicted(run, t)
        stepped = run.scheduler.step(predicted, t, run.latents, generator=run.generators, return_dict=False)
        run.latents, run.done = stepped[0], run.done + 1

    def _predicted(self, run: SamplingRun, t: Tensor) -> Tensor:
        """What is in the latents besides the picture, guided. Of long clips everything is large: nothing stays."""
        noisy = run.scheduler.scale_model_input(run.latents, t)
        times = run.scheduler.timesteps
        following = NoiseLevel.of(run.scheduler, times[run.done + 1]).sigma if run.done + 1 < len(times) else 0.0
        window = self.windows.size if self.windows.cut else 0
        moment = Moment(self.windows.frames, self.guidance.kept, run.done, len(times), following, window)
        shown = self._handed_over(noisy)
        made = self._together(run.arrangement, shown, t)
        first = made[Pass("cond")]
        made[Pass("cond")] = self._joined(run, shown, t, Pass("cond"), first, made.get(Pass("uncond"), first))
        by_text = {wanted.text: found for wanted, found in made.items() if wanted.motion}
        predicted = by_text["cond"]
        if "uncond" in by_text:
            predicted = self.guidance.combine(by_text["uncond"], predicted, moment)

        def predict(further: Pass) -> Tensor:
            if further in made:
                return made[further]
            told = self.conditioning.apart()[further.text != "uncond"]
            with run.arrangement.further(further.text, further.motion):
                found = self._called([further], shown, t, told)[further]
            return self._joined(run, shown, t, further, found, found) if further.text == "cond" else found

        return self.guidance.edit(predicted, by_text, noisy, NoiseLevel.of(run.scheduler, t), moment, predict)

    def _joined(self, run: SamplingRun, shown: Tensor, t: Tensor, wanted: Pass, first: Tensor, base: Tensor) -> Tensor:
        """What is predicted for all parts of the prompts that AND joins, given that for the ``first``; see `join`."""
        found = [(self.conditioning.weight, first)]
        for number, part in enumerate(self.conditioning.joined, 1):
            with run.arrangement.further(f"part {number}", wanted.motion):
                found.append((part.weight, self._called([wanted], shown, t, part)[wanted]))
        return join(found, base, self.networks.regions, self.windows.frames) if found[1:] else first

    def _together(self, arrangement: Arrangement, noisy: Tensor, t: Tensor) -> dict[Pass, Tensor]:
        """What is predicted for the prompt, for the negative prompt if there is one, and of what techniques ask for
        besides that which there is room for."""
        conditioning, count = self.conditioning, len(self.clips)
        own = [Pass("uncond"), Pass("cond")] if conditioning.negatives else [Pass("cond")]
        if len(own) > 1 and self.windows.cut and not self._has_room(len(own)):
            halves = [self._call_unet(noisy, t, half) for half in conditioning.apart()]
            return dict(zip(own, fetched(halves), strict=True))
        still = Pass(own[0].text, motion=False)  # in front, where groups of negative prompts are
        if still not in self.techniques.passes([wanted.text for wanted in own]) or not self._has_room(1 + len(own)):
            return self._called(own, noisy, t, conditioning)
        with arrangement.beside(count):
            return self._called([still, *own], noisy, t, conditioning.first_again(count))

    def _called(
        self, passes: Sequence[Pass], noisy: Tensor, t: Tensor, conditioning: FrameConditioning
    ) -> dict[Pass, Tensor]:
        """All of them in one call of the UNet."""
        shown = noisy if len(passes) == 1 else noisy.repeat(len(passes), 1, 1, 1)
        (predicted,) = fetched([self._call_unet(shown, t, conditioning)])
        return dict(zip(passes, predicted.chunk(len(passes)), strict=True))

    def _called_alone(self, noisy: Tensor, t: Tensor, conditioning: FrameConditioning) -> Tensor:
        return self._called([Pass("cond")], self._handed_over(noisy), t, conditioning)[Pass("cond")]

    def _has_room(self, passes: int) -> bool:
        """Whether so many of them go through the UNet together."""
        frames = self.windows.frames if self.windows.engine == "attention" else self.windows.size
        return passes * len(self.clips) * frames * math.prod(self.clips[0].size) <= GUIDED_AT_ONCE

    def _call_unet(self, noisy: Tensor, t: Tensor, conditioning: FrameConditioning) -> Tensor:
        predicted: Tensor = self.parts.unet(noisy, t, frame_conditioning=conditioning, return_dict=False)[0]
        return predicted

    def _handed_over(self, noisy: Tensor) -> Tensor:
        """Latents of all frames, on the device if all of them and what is predicted have room there. Processes that
        share the work give each other tensors of the CPU."""
        held = len(noisy) * math.prod(self.clips[0].size) <= HELD_AT_ONCE and self.sharing.size == 1
        return send(noisy, self.device, self.dtype) if held else noisy

    def _begin_again(self, run: SamplingRun) -> None:
        """The next round, each clip by itself."""
        assert run.noise is not None
        count, alpha = len(self.clips), float(run.scheduler.alphas_cumprod[-1])
        clips = zip(self.clips, run.latents.chunk(count), run.noise.chunk(count), strict=True)
        number = run.drawn + 1
        ended = [Round(number, drawn, old, alpha, clip.seed, self._fresh, self.windows) for clip, drawn, old in clips]
        noise = torch.cat(list(map(self.techniques.again, ended)))
        run.scheduler, run.drawn, run.noise = self._scheduler(), run.drawn + 1, noise
        run.arrangement.restart()
        self._put_beginning(run, noise)

    def _fresh(self, seed: int) -> Tensor:
        """Noise for all frames of a clip from one stream."""
        return self._noise([torch.Generator("cpu").manual_seed(seed)] * self.windows.frames)

    def _noise(self, generators: Sequence[torch.Generator]) -> Tensor:
        size = self.clips[0].size
        shape = (LATENT_CHANNELS, size.height // 8, size.width // 8)
        return torch.stack([torch.randn(shape, generator=generator) for generator in generators])
