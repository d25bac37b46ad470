"""The standalone host: an image model on diffusers that draws clips, with or without a motion module."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange, repeat
from torch import Tensor, nn

import motion
import sparsectrl
from motion.arrangement import Arrangement
from motion.errors import MotionError
from motion.hosts.standalone import keyframes, lora, samplers
from motion.hosts.standalone.checkpoint import Parts, open_parts
from motion.hosts.standalone.lora_weights import worn
from motion.hosts.standalone.prompts import Condition, encode
from motion.lora import Weighted
from motion.network.architecture import SCHEDULES
from motion.network.model import MotionModel
from motion.settings import FIELDS, Clip

Frames = npt.NDArray[np.uint8]
Progress = Callable[[int, int], None]
"""Called with (steps done, steps): with 0 when sampling begins, then after each step."""

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
DECODED_AT_ONCE = 4 * 512 * 512
"""Pixels that go through the VAE together, but always a whole frame."""

OWN = ("prompt", "negative", "seed", "fps", "zoom")
"""Settings in which clips drawn in one batch may differ."""


def device_of(name: str = "auto") -> torch.device:
    """The device by name; `auto` is the best there is. Raises MotionError if it is unknown or not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, found in there.items() if found))
    kind, _, index = name.partition(":")
    if not there.get(kind) or (index and not (kind == "cuda" and index.isdecimal())):
        raise MotionError(
            f"device is {name}: choose one of auto, {', '.join(k for k, found in there.items() if found)}"
        )
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        raise MotionError(f"device is {name}: this machine has {torch.cuda.device_count()} CUDA devices, from cuda:0")
    return torch.device(name)


def dtype_of(name: str, device: torch.device) -> torch.dtype:
    """The dtype by name; `auto` is fp16 on CUDA, else fp32. Raises MotionError if it is unknown."""
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise MotionError(f"dtype is {name}: choose one of auto, {', '.join(DTYPES)}")
    return DTYPES[name]


@dataclass(frozen=True)
class Standalone:
    """An image model on its device. `open` makes one; `render` draws a clip, `render_all` several at once."""

    parts: Parts
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def open(cls, path: Path | str, device: str = "auto", dtype: str = "auto") -> Standalone:
        """Open a single-file SD1.5 or SDXL checkpoint or a diffusers folder, offline.

        Raises MotionError if it is missing, damaged or of another kind, or the device is not there.
        """
        place = device_of(device)
        precision = dtype_of(dtype, place)
        if not Path(path).exists():
            raise MotionError(f"checkpoint {path} does not exist: give a checkpoint file or a diffusers folder")
        parts = open_parts(Path(path))
        upcast = precision == torch.float16 and parts.vae.config.force_upcast
        precisions = {parts.unet: precision, parts.vae: torch.float32 if upcast else precision}
        precisions |= {encoder.model: precision for encoder in parts.encoders}
        for model, its_precision in precisions.items():
            nn.Module.to(model, place, its_precision)  # diffusers' own `to` logs a warning at every cast
        return cls(parts, place, precision)

    def render(
        self,
        clip: Clip,
        module: MotionModel | None = None,
        progress: Progress | None = None,
        loras: Sequence[lora.Lora] = (),
        attached: Sequence[Weighted] = (),
        controls: Sequence[keyframes.Control] = (),
    ) -> Frames:
        """The frames of one clip, uint8 `[frames, height, width, 3]`; see `render_all`."""
        return self.render_all([clip], module, progress, loras, attached, controls)[0]

    @torch.inference_mode()
    def render_all(
        self,
        clips: Sequence[Clip],
        module: MotionModel | None = None,
        progress: Progress | None = None,
        loras: Sequence[lora.Lora] = (),
        attached: Sequence[Weighted] = (),
        controls: Sequence[keyframes.Control] = (),
    ) -> Frames:
        """The frames of clips that differ in prompts and seeds only, uint8 `[clips, frames, height, width, 3]`.

        Without a motion module each frame is a picture of its own. `loras` are the image model's, `attached` motion
        LoRAs and domain adapters with their weights. Every control is told its effect. The same seed draws the same
        noise on every device and in every batch. Raises MotionError for a module or an encoder that does not fit the
        checkpoint or the frames, a control that does nothing, a LoRA that is named in a prompt and not given or does
        not fit, and frames that are not finite.
        """
        clips = [clip.seeded() for clip in clips]
        self._check(clips, module, loras)
        asked = clips[0].frames
        if module is not None:
            clips = [replace(clip, frames=module.architecture.frames_to_draw(asked)) for clip in clips]
        with _memory_error_told(clips[0]), worn(self.parts, loras):
            latents = self._denoise(clips, self._condition(clips), module, progress, attached, controls)
            return self._decode(latents, clips)[:, :asked]

    def _check(self, clips: Sequence[Clip], module: MotionModel | None, loras: Sequence[lora.Lora]) -> None:
        for name in (name for name in FIELDS if name not in OWN):
            values = {getattr(clip, name) for clip in clips}
            if len(values) != 1:
                raise MotionError(f"{name} differs between clips of one batch ({values}): draw them one by one")
        given = {lora_file.path.stem for lora_file in loras}
        missing = [name for clip in clips for name in lora.names(clip.prompt) if name not in given]
        if missing:
            raise MotionError(f"the prompt names the LoRA {missing[0]}: give its file in loras")
        if module is not None:
            check_module(module, clips[0].frames, self.parts.base)

    def _condition(self, clips: Sequence[Clip]) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Context `[groups frames, tokens, channels]` and SDXL's added condition; the unguided groups come first."""
        negatives = [clip.negative for clip in clips] if clips[0].cfg > 1 else []
        texts = [lora.plain(text) for text in (*negatives, *(clip.prompt for clip in clips))]
        condition: Condition = encode(self.parts.encoders, texts, clips[0].clip_skip)
        frames, (width, height) = clips[0].frames, clips[0].size
        context = repeat(condition.context, "groups tokens c -> (groups f) tokens c", f=frames)
        if condition.pooled is None:
            return context, None
        picture = torch.tensor([height, width, 0, 0, height, width], device=self.device)
        return context, {
            "text_embeds": repeat(condition.pooled, "groups c -> (groups f) c", f=frames),
            "time_ids": repeat(picture, "measures -> rows measures", rows=len(context)).to(self.dtype),
        }

    def _denoise(
        self,
        clips: Sequence[Clip],
        condition: tuple[Tensor, dict[str, Tensor] | None],
        module: MotionModel | None,
        progress: Progress | None,
        attached: Sequence[Weighted],
        controls: Sequence[keyframes.Control],
    ) -> Tensor:
        """Sample latents, float32 `[(clips frames), 4, height/8, width/8]`."""
        clip, (context, added) = clips[0], condition
        family = module.architecture.family if module else None
        betas = family.schedule(clip.betas) if family else SCHEDULES.get(clip.betas, samplers.STABLE_DIFFUSION)
        scheduler = samplers.scheduler(clip.sampler, betas, clip.steps)
        generators = [generator for clip in clips for generator in frame_generators(clip)]
        shape = (self.parts.unet.config.in_channels, clip.size.height // 8, clip.size.width // 8)
        noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
        latents = noise.to(self.device) * scheduler.init_noise_sigma
        passes = len(context) // len(latents)
        with ExitStack() as scope:
            self._attach(scope, clip, module, attached, controls)
            report = progress or (lambda done, steps: None)
            steps = len(scheduler.timesteps)
            report(0, steps)
            for done, t in enumerate(scheduler.timesteps, start=1):
                rows = scheduler.scale_model_input(latents, t).repeat(passes, 1, 1, 1).to(self.dtype)
                noise = self.parts.unet(rows, t, context, added_cond_kwargs=added, return_dict=False)[0].float()
                if passes == 2:
                    unguided, guided = noise.chunk(2)
                    noise = unguided + clip.cfg * (guided - unguided)
                latents = scheduler.step(noise, t, latents, generator=generators, return_dict=False)[0]
                keyframes.check_effects(controls, ended=done == steps)
                report(done, steps)
        return latents

    def _attach(
        self,
        scope: ExitStack,
        clip: Clip,
        module: MotionModel | None,
        attached: Sequence[Weighted],
        controls: Sequence[keyframes.Control],
    ) -> None:
        """What the clip is drawn with, for as long as `scope` lasts."""
        closed = Arrangement(clip.frames, closed=True) if module is not None and clip.loop == "closed" else None
        if module is not None:
            scope.enter_context(motion.attach(self.parts.unet, module, clip.frames, clip.scale, closed))
        scope.enter_context(motion.lora.attach(self.parts.unet, module, attached))
        for control in controls:
            encoder = sparsectrl.load(control.file).to(self.device, self.dtype)
            shown = keyframes.condition(control, encoder, self.parts.vae, clip)
            how = keyframes.influence(clip)
            acting = sparsectrl.attach(self.parts.unet, encoder, shown, clip.frames, influence=how, arrangement=closed)
            control.effect = scope.enter_context(acting)
        keyframes.check_effects(controls, ended=False)

    def _decode(self, latents: Tensor, clips: Sequence[Clip]) -> Frames:
        if not latents.isfinite().all():
            raise MotionError(f"the frames came out as NaN in {self.dtype}: use --dtype fp32 (or bf16)")
        vae, size = self.parts.vae, clips[0].size
        frames = [
            vae.decode(part.to(vae.dtype) / vae.config.scaling_factor, return_dict=False)[0].float().cpu()
            for part in torch.split(latents, max(1, DECODED_AT_ONCE // (size.width * size.height)))
        ]
        pixels = (torch.cat(frames) * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
        return rearrange(pixels, "(n f) c h w -> n f h w c", n=len(clips)).numpy()


def frame_generators(clip: Clip) -> list[torch.Generator]:
    """For each frame the source of its initial noise, and then of whatever noise the sampler adds to it."""
    if clip.seed_mode == "frame":
        return [torch.Generator("cpu").manual_seed(clip.seed + frame) for frame in range(clip.frames)]
    return [torch.Generator("cpu").manual_seed(clip.seed)] * clip.frames


def check_module(module: MotionModel, frames: int, base: str | None = None) -> None:
    """Raise MotionError unless the module reaches over `frames` frames and was made for `base`."""
    architecture = module.architecture
    if base not in (None, architecture.family.base):
        raise MotionError(
            f"the motion module is made for {architecture.family.base} and the checkpoint is {base}: "
            f"choose a motion module for {base}"
        )
    if frames > architecture.max_frames:
        raise MotionError(f"frames is {frames}: this motion module reaches over {architecture.max_frames} at most")


@contextmanager
def _memory_error_told(clip: Clip) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # also torch.cuda.OutOfMemoryError
        if "out of memory" not in str(error) and "can't allocate memory" not in str(error):
            raise
        raise MotionError(f"{clip.frames} frames of {clip.size} do not fit into memory: make either smaller") from error
