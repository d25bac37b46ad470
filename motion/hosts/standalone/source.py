"""The latents that video to video begins with, and what a mask keeps of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from motion.hosts.source import HALF, Source, in_latents
from motion.hosts.standalone.samplers import Levels
from motion.hosts.standalone.vae import encode, encode_frames
from motion.settings.settings import Clip


class Kept(NamedTuple):
    """The source's latents of each frame that is drawn, `[frames, 4, h, w]`, and where it is drawn anew, true or false
    `[frames, 1, h, w]`."""

    latents: Tensor
    anew: Tensor

    def edit(self, x0: Tensor) -> Tensor:
        """A prediction `[(clips frames), 4, h, w]` with what is kept in it."""
        clips = x0.view(-1, *self.latents.shape)
        return torch.where(self.anew, clips, self.latents).flatten(0, 1)


def kept_by_mask(source: Source | None, clip: Clip, vae: AutoencoderKL, frames: int) -> Kept | None:
    """What the mask of a source keeps of a clip, of which so many `frames` are drawn; None where there is none."""
    if source is None or source.mask is None:
        return None
    masks = source.masks(clip.frames, clip.size, clip.mask_blur)
    anew = torch.stack([torch.from_numpy(in_latents(mask))[None] for mask in masks])
    found = torch.cat(list(encode_frames(vae, source.frames(clip.frames, clip.size))))
    return Kept(lengthened(found, frames), lengthened(anew, frames))


def noise_source(found: Iterable[Tensor], noise: Tensor, levels: Levels, step: int) -> Tensor:
    """The latents of a source, `found` a few frames at a time, at the noise level of a step, in the place of
    `noise [clips, frames, 4, h, w]`: `[some, 4, h, w]` of all clips or `[clips, some, 4, h, w]`; frames beyond the
    source's begin with its last one.
    """
    latents = noise.mul_(levels.sigmas[step])
    at = 0
    for some in found:
        count = some.shape[-4]
        latents[:, at : at + count] += some
        at, last = at + count, some[..., -1:, :, :, :]
    latents[:, at:] += last
    return latents.mul_(levels.scales[step])


def inpainting_channels(source: Source | None, clip: Clip, vae: AutoencoderKL, frames: int) -> Tensor:
    """What the UNet of an inpainting model sees of each frame beside its noise, `[frames, 5, h, w]`: the mask, 1 where
    it is drawn anew, and the latents of the picture, grey there (Rombach et al., arXiv:2112.10752, section 4.5).

    Without a mask all is drawn anew.
    """
    if source is None or source.mask is None:
        width, height = clip.size
        grey = encode(vae, torch.full((1, 3, height, width), 0.5)).cpu()
        return torch.cat([torch.ones_like(grey[:, :1]), grey], 1).expand(frames, -1, -1, -1)
    anew: list[Tensor] = []

    def greyed() -> Iterator[npt.NDArray[Any]]:
        pairs = zip(
            source.frames(clip.frames, clip.size), source.masks(clip.frames, clip.size, clip.mask_blur), strict=True
        )
        for frame, mask in pairs:
            hidden = mask >= HALF
            anew.append(torch.from_numpy(hidden[None, ::8, ::8].astype(np.float32)))
            yield np.where(hidden[:, :, None], np.float32(255 / 2), frame.astype(np.float32))

    shown = torch.cat(list(encode_frames(vae, greyed())))
    return lengthened(torch.cat([torch.stack(anew), shown], 1), frames)


def lengthened(rows: Tensor, frames: int) -> Tensor:
    """`rows [clip, ...]` of as many `frames` as are drawn; those beyond the clip are the last."""
    return torch.cat([rows, rows[-1:].expand(frames - len(rows), *rows.shape[1:])])
