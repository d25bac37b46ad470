"""The standalone host: an image model on diffusers that draws clips, with or without a motion module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from torch import Tensor

from motion.errors import MotionError
from motion.fields.table import Size
from motion.hosts.controls import fit_image
from motion.hosts.finish import finish_frames
from motion.hosts.memory import MODEL_REMEDY, memory_error_told
from motion.hosts.sounds import settle_sounds
from motion.hosts.source import Source
from motion.hosts.standalone.checkpoint import open_parts
from motion.hosts.standalone.device import device_of, dtype_of
from motion.hosts.standalone.finite import check_finite
from motion.hosts.standalone.networks.lora_weights import merge_loras
from motion.hosts.standalone.networks.networks import Networks
from motion.hosts.standalone.parts import Parts
from motion.hosts.standalone.placement import resting, settle
from motion.hosts.standalone.sampling import Sampling
from motion.hosts.standalone.source import lengthened
from motion.hosts.standalone.text.joined import encode_prompts
from motion.hosts.standalone.vae import decode, encode_frames, frames_at_once
from motion.hosts.standalone.windows import windows_of
from motion.hosts.standalone.work import Progress, Work, part_of, seed_of_work
from motion.models.motion.model import MotionModel
from motion.sampling.animation import is_attached
from motion.sampling.sharing import ALONE, Sharing
from motion.sampling.windows import Windows, plan
from motion.settings.choices import SAMPLERS
from motion.settings.lora_tags import lora_tags
from motion.settings.settings import FIELDS, Clip
from motion.techniques.ddim_inversion import check_reversible
from motion.techniques.registry import check, techniques_of
from motion.techniques.technique import Plan
from motion.video.loop import play_order
from motion.video.pictures import Frame
from motion.video.write import Rewindable
from motion.weights.paths import OR_FOLDER, check_file

Frames = npt.NDArray[np.uint8]
GoBack = Callable[[Sampling, Tensor], Tensor]
OWN = ("prompt", "negative", "seed", "fps", "zoom")
"""Settings in which clips drawn in one batch may differ."""


@dataclass(frozen=True)
class Standalone:
    """An image model on its device. `open` makes one; `render` draws a clip, `render_all` several at once."""

    parts: Parts
    device: torch.device
    dtype: torch.dtype
    sharing: Sharing = ALONE
    """The processes that draw each clip together; all of them call `stream`, and nothing else."""
    sparing: bool = False
    """Whether memory is short: the UNet's layers take a few frames at a time, and the other parts are on the CPU
    meanwhile. The clip is the same."""

    @classmethod
    def open(
        cls,
        path: Path | str,
        device: str = "auto",
        dtype: str = "auto",
        vae: Path | str | None = None,
        prediction: str = "auto",
        sharing: Sharing = ALONE,
        sparing: bool | None = None,
    ) -> Standalone:
        """Open a single-file SD1.5 or SDXL checkpoint or a diffusers folder, offline; see `open_parts`.

        Raises MotionError if it is missing, damaged or of another kind, does not fit into the device's memory, or the
        device is not there.
        """
        place = device_of(device)
        precision = dtype_of(dtype, place)
        check_file(Path(path), "checkpoint", OR_FOLDER, folders=True)
        with memory_error_told(f"the image model {Path(path).name} does", MODEL_REMEDY):
            parts = open_parts(Path(path), Path(vae) if vae else None, prediction)
            short = settle(parts, place, precision, dtype)
            return cls(parts, place, precision, sharing, short if sparing is None else sparing)

    def render(
        self,
        clip: Clip,
        networks: Networks | MotionModel | None = None,
        progress: Progress | None = None,
        source: Source | None = None,
        noise: Tensor | None = None,
    ) -> Frames:
        """The frames of one clip, uint8 `[frames, height, width, 3]`; see `render_all`."""
        return self.render_all([clip], networks, progress, source, noise)[0]

    def stream(
        self,
        clip: Clip,
        networks: Networks | MotionModel | None = None,
        progress: Progress | None = None,
        work: Work | None = None,
        source: Source | None = None,
        noise: Tensor | None = None,
    ) -> Rewindable:
        """The frames of one clip in the order they are played, uint8 `[height, width, 3]`; see `render_all`.

        It is drawn now; the frames are decoded as they are asked for, a few at a time, by each walk over them. `work`
        keeps how far it is. Of processes that share the work the first alone is given frames; the others decode for it
        now, until it has no more to ask for.
        """
        networks = Networks.of(networks)
        latents = self._latents([clip], networks, progress, work, source, noise)[0]
        if not self.sharing.leads:
            self.sharing.serve(partial(self._decode, latents))
            return Rewindable(lambda: iter(()))
        order = play_order(clip.frames, clip.loop)
        again = partial(self._decoded, latents)

        def walk() -> Iterator[Frame]:
            shown = finish_frames(again(order), order, clip, networks.controls, again)
            return shown if source is None else source.put_back(shown, order, clip.frames, clip.mask_blur)

        return Rewindable(walk)

    def render_all(
        self,
        clips: Sequence[Clip],
        networks: Networks | MotionModel | None = None,
        progress: Progress | None = None,
        source: Source | None = None,
        noise: Tensor | None = None,
    ) -> Frames:
        """The frames of clips that differ in prompts and seeds only, uint8 `[clips, frames, height, width, 3]`.

        A motion module may stand for `networks` where it is the only one. The same seed draws the same noise on every
        device and in every batch. With a `source` its frames are drawn anew, as far as `strength` says.
        `noise [(clips frames), 4, height/8, width/8]`, such as `invert` finds, may be given instead of the seeds'.

        Raises MotionError for a module or an encoder that does not fit the checkpoint or the windows, a control that
        does nothing, a LoRA that is named in a prompt and not given or does not fit, a source with fewer frames, and
        frames that are not finite.
        """
        networks = Networks.of(networks)
        latents = self._latents(clips, networks, progress, source=source, noise=noise)
        every = latents.flatten(0, 1)
        frames = np.stack(list(self._decoded(every, range(len(every)))))
        drawn = rearrange(frames, "(n f) h w c -> n f h w c", n=len(clips))
        order = range(clips[0].frames)
        finished = (finish_frames(clip, order, clips[0], networks.controls, clip.__getitem__) for clip in drawn)
        if source is not None:
            finished = (source.put_back(clip, order, clips[0].frames, clips[0].mask_blur) for clip in finished)
        return np.stack(list(map(list, finished)))

    @torch.inference_mode()
    def _latents(
        self,
        clips: Sequence[Clip],
        networks: Networks,
        progress: Progress | None,
        work: Work | None = None,
        source: Source | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Float32 `[clips, frames, 4, height/8, width/8]` on the CPU."""
        clips = [settle_sounds(seed_of_work(clip, work), FIELDS) for clip in clips]
        self._check(clips, networks, source)
        *_, latents = self._passes(clips, networks, progress, work, source, noise)
        return latents

    def _passes(
        self,
        clips: Sequence[Clip],
        networks: Networks,
        progress: Progress | None,
        work: Work | None,
        source: Source | None,
        noise: Tensor | None,
    ) -> Iterator[Tensor]:
        """The latents of each pass, `[clips, frames, 4, h, w]`."""
        passes, drawn = list(zip(*(clip.passes() for clip in clips), strict=True)), None
        noise = self._noise_in(source, passes[0], networks) if noise is None else noise
        for number, of_pass in enumerate(passes):
            report = part_of(progress, number, len(passes))
            windows = self._windows(of_pass[0], networks)
            told = memory_error_told(f"{windows.size} frames of {of_pass[0].size} do")
            first = None if drawn is None else self._enlarged(drawn, of_pass[0].size)
            with told, merge_loras(self.parts, networks.loras):
                conditioning = encode_prompts(self.parts, of_pass, windows.frames, networks)
                drawn_with = of_pass, windows, conditioning, networks, source, noise if first is None else None, first
                sharing, found = self.sharing if windows.apart else ALONE, None
                sampling = Sampling(self.parts, self.device, self.dtype, *drawn_with, sharing, self.sparing)
                if windows.apart or self.sharing.leads:
                    with resting(self.parts, self.sparing):
                        found = sampling.latents(report, None if work is None else replace(work, part=number))
                drawn = rearrange(self.sharing.of_first(found), "(n f) c h w -> n f c h w", n=len(clips))
                drawn_by = {"checkpoint, or a LoRA in it,": self.parts.unet, "motion module": networks.module}
                check_finite(drawn, self.dtype, drawn_by)
            drawn = drawn[:, : clips[0].frames]
            yield drawn

    def _enlarged(self, latents: Tensor, size: Size) -> Tensor:
        """Those of the same pictures, `[clips, frames, 4, h, w]`, in that size."""
        shown = (self._decoded(clip, range(len(clip))) for clip in latents)
        larger = ((fit_image(frame, size, "crop") for frame in frames) for frames in shown)
        return torch.stack([torch.cat(list(encode_frames(self.parts.vae, frames))) for frames in larger])

    @torch.inference_mode()
    def invert(
        self, clip: Clip, frames: Frames, networks: Networks | MotionModel | None = None, evaluations: int = 1
    ) -> Tensor:
        """The noise from which `clip` would be drawn as `frames`, uint8 `[frames, height, width, 3]`: DDIM inversion.

        By the prompt alone, without guidance: at a CFG scale of 1 `render` comes back to the frames. With more
        `evaluations` of the network in each step it comes nearer. Float32 `[drawn, 4, height/8, width/8]`, as many as
        the motion module draws. Raises MotionError for samplers that go other ways, and frames that are not the clip's.
        """
        width, height = clip.size
        check_reversible(SAMPLERS[clip.sampler])
        if frames.shape != (clip.frames, height, width, 3):
            raise MotionError(f"the frames are {frames.shape}: give {clip.frames} of {width}x{height}")
        go_back = partial(Sampling.inverted, evaluations=evaluations)
        return self._gone_back(clip, frames, Networks.of(networks), go_back)

    def _gone_back(self, clip: Clip, frames: Iterable[Frame], networks: Networks, go_back: GoBack) -> Tensor:
        """What `go_back` makes of the latents of the frames, by the clip's prompt alone."""
        clip = settle_sounds(replace(clip, cfg=1.0).with_seed(), FIELDS)
        windows = self._windows(clip, networks)
        latents = lengthened(torch.cat(list(encode_frames(self.parts.vae, frames))), windows.frames)
        with memory_error_told(f"{windows.size} frames of {clip.size} do"), merge_loras(self.parts, networks.loras):
            conditioning = encode_prompts(self.parts, [clip], windows.frames, networks)
            if conditioning.joined:
                raise MotionError("a clip goes back to its noise by one prompt: give one without AND")
            sampling = Sampling(self.parts, self.device, self.dtype, [clip], windows, conditioning, networks)
            return go_back(sampling, latents)

    def _noise_in(self, source: Source | None, clips: Sequence[Clip], networks: Networks) -> Tensor | None:
        """That of the source, found by its caption, for each of the clips; None where they ask for other noise."""
        if source is None or not techniques_of(clip := clips[0]).ask("inverts"):
            return None
        shown, captioned = source.frames(clip.frames, clip.size), replace(clip, prompt=clip.source_caption)
        return self._gone_back(captioned, shown, networks, Sampling.noise_in).repeat(len(clips), 1, 1, 1)

    def _windows(self, clip: Clip, networks: Networks) -> Windows:
        together = networks.module is None and is_attached(self.parts.unet)
        if networks.one_shot is not None and not together:
            return plan(clip, None)
        return Windows(clip.frames) if together else windows_of(clip, networks.module, self.parts.base)

    def _check(self, clips: Sequence[Clip], networks: Networks, source: Source | None) -> None:
        for name in (name for name in FIELDS if name not in OWN):
            values = {getattr(clip, name) for clip in clips}
            if len(values) != 1:
                raise MotionError(f"{name} differs between clips of one batch ({values}): draw them one by one")
        if any(lora_tags(clip.negative) for clip in clips):
            raise MotionError(
                "the negative prompt names a LoRA: name it in the prompt, where it acts on the whole clip"
            )
        given = {lora_file.path.stem for lora_file in networks.loras}
        missing = [name for clip in clips for name in (tag.name for tag in lora_tags(clip.prompt)) if name not in given]
        if missing:
            raise MotionError(f"the prompt names the LoRA {missing[0]}: give its file in loras")
        clip = clips[0]
        networks.check(clip)
        held = [frame for control in networks.controls for frame in control.images]
        drawn_as = Plan(clip.cfg, held, source is None, frames=clip.frames, sampler=SAMPLERS[clip.sampler])
        check(techniques_of(clip), drawn_as)

    def _decoded(self, latents: Tensor, numbers: Sequence[int]) -> Iterator[Frame]:
        """Those of the frames of latents `[frames, 4, h, w]`, decoded a few at a time."""
        height, width = (8 * side for side in latents.shape[-2:])
        parts = torch.split(torch.as_tensor(numbers), 1 if self.sparing else frames_at_once(width, height))
        for frames in self.sharing.map_for_first(partial(self._decode, latents), parts):
            yield from frames

    @torch.inference_mode()
    def _decode(self, latents: Tensor, numbers: Tensor) -> Frames:
        """Those of the frames, decoded together: uint8 `[some, height, width, 3]`."""
        height, width = (8 * side for side in latents.shape[-2:])
        with memory_error_told(f"frames of {width}x{height} do"):
            pixels = decode(self.parts.vae, latents[numbers]) * 127.5 + 127.5
        return rearrange(pixels.round().clamp(0, 255).to(torch.uint8).cpu(), "n c h w -> n h w c").numpy()
