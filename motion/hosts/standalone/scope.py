"""The scope in which clips are drawn: all that acts on the UNet, attached, and what each call is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import motion
import sparsectrl
from motion import patching
from motion.hosts.controls import Control, check_effects, condition, influence
from motion.hosts.effects import effect_of
from motion.hosts.standalone.guidance import Guidance
from motion.hosts.standalone.networks.control_net import ControlNet, added
from motion.hosts.standalone.networks.image_prompt import ImageTokens
from motion.hosts.standalone.networks.networks import Networks
from motion.hosts.standalone.parts import Parts
from motion.hosts.standalone.vae import encode
from motion.hosts.standalone.work import SamplingRun
from motion.models.motion.positions import Positions
from motion.sampling.animation import attach_further, attach_windows, is_attached
from motion.sampling.arrangement import Arrangement
from motion.sampling.casting import send
from motion.sampling.unet_call import attach_inputs
from motion.settings.settings import Clip
from sparsectrl import Effect


@dataclass(frozen=True)
class Scope:
    """What attaches to the UNet of `parts` while clips like `clip` are drawn."""

    parts: Parts
    device: torch.device
    dtype: torch.dtype
    clip: Clip
    networks: Networks
    guidance: Guidance
    beside: Tensor | None = None
    """What the UNet of an inpainting model sees of each frame beside its noise, `[frames, 5, h, w]`."""

    @contextmanager
    def enter(self, run: SamplingRun) -> Iterator[None]:
        """All of it; `run` is given the effects."""
        unet, clip, module, arrangement = self.parts.unet, self.clip, self.networks.module, run.arrangement
        with ExitStack() as scope:
            if module is not None:
                layers = effect_of(clip), Positions.of(clip)
                scope.enter_context(motion.attach(unet, module, arrangement.frames, 1.0, arrangement, *layers))
            elif not is_attached(unet):
                scope.enter_context(attach_windows(unet, arrangement))
            for further, effect in self.networks.further:
                scope.enter_context(attach_further(unet, further, arrangement, effect, Positions.of(clip)))
            if (style := self.networks.style) is not None:
                scope.enter_context(motion.style.attach(unet, style.unet, style.strength, clip.frames, arrangement))
            if (tuned := self.networks.one_shot) is not None:
                scope.enter_context(motion.one_shot.attach(unet, tuned, arrangement.frames, arrangement=arrangement))
            looking = motion.cross_frame.attach_by_settings(unet, clip, arrangement, clip.zero_shot, clip.frames)
            scope.enter_context(looking)
            loras = self.networks.attached_loras()
            scope.enter_context(motion.lora.attach(unet, module, loras, clip.frames, arrangement))
            scope.enter_context(motion.step_cache.attach_by_settings(unet, clip, arrangement))
            images: list[ImageTokens] = []
            led_by = [ControlNet.of(shown, unet, clip, arrangement.frames) for shown in self.networks.control_clips]
            give = self._give_conditioning(arrangement, images, led_by)
            scope.callback(patching.before(unet, give, with_kwargs=True))
            if self.beside is not None:
                scope.callback(attach_inputs(unet, arrangement, self._see_beside))
            if self.guidance.techniques.have("see"):
                scope.callback(attach_inputs(unet, arrangement, self.guidance.see))
            if (prompt := self.networks.image_prompt) is not None:
                images.append(scope.enter_context(prompt.attach(unet, arrangement, clip.frames, clip.loop == "closed")))
            for control in self.networks.controls:  # they read what the calls are given
                if control.file is not None:
                    control.effect = scope.enter_context(self._attach_control(control, control.file, arrangement))
                    run.effects.append(control.effect)
            check_effects(self.networks.controls, ended=False)
            yield

    def _see_beside(self, x: Tensor, t: Tensor, frames: Sequence[int]) -> tuple[Tensor, Tensor]:
        """A call's latents, and what stands beside them."""
        assert self.beside is not None
        return torch.cat([x, self.beside[list(frames)].to(x)], 1), t

    def _attach_control(self, control: Control, file: Path, arrangement: Arrangement) -> AbstractContextManager[Effect]:
        """The scope of a control."""
        clip, frames = self.clip, arrangement.frames
        encoder = control.encoder
        if encoder is None:
            encoder = sparsectrl.load(file).to(self.device, self.dtype)
        shown = condition(control, encoder, partial(encode, self.parts.vae), clip, clip.size, frames)
        how = influence(clip, clip.frames, control)
        return sparsectrl.attach(self.parts.unet, encoder, shown, frames, influence=how, arrangement=arrangement)

    def _give_conditioning(
        self, arrangement: Arrangement, images: Sequence[ImageTokens], led_by: Sequence[ControlNet]
    ) -> Callable[..., Any]:
        """The hook that gives each call of the UNet the conditioning of its frames, and takes it to the device."""
        width, height = self.clip.size
        picture = torch.tensor([height, width, 0, 0, height, width], device=self.device)

        def give(_: nn.Module, args: tuple[Tensor, Tensor], kwargs: dict[str, Any]) -> Any:
            rows, time = args
            frames, conditioning = arrangement.frame_numbers(len(rows)), kwargs.pop("frame_conditioning")
            condition = conditioning.rows(frames)
            for tokens in images:
                tokens.take(frames, conditioning.negative_rows(len(rows)))
            told = None
            if condition.pooled is not None:
                told = {"text_embeds": condition.pooled, "time_ids": picture.expand(len(rows), -1).to(self.dtype)}
            given = {"encoder_hidden_states": condition.context, "added_cond_kwargs": told}
            rows, time = send(rows, self.device, self.dtype), torch.as_tensor(time)
            arrangement.time(time)  # whoever asks later would wait for the device
            time = torch.full((), time.item(), dtype=time.dtype, device=self.device)  # filled there, not sent
            call = rows, time, frames, given, bool(arrangement.aside)
            return (rows, time), {**kwargs, **given, **added(led_by, *call)}

        return give
