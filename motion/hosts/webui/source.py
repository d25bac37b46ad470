"""Video to video in txt2img of a WebUI, whose first pass knows no initial image of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from motion import patching
from motion.fields.table import Size
from motion.hosts.controls import Pixels
from motion.hosts.source import Source, in_latents
from motion.hosts.webui.backends.base import host_module, on_samplers, option
from motion.hosts.webui.backends.detect import encode
from motion.settings.settings import FIELDS
from motion.settings.source import SourceClip

STRENGTH = "denoising_strength"
MASK_BLUR = FIELDS["mask_blur"].default
"""Of a mask in txt2img, which has no setting of the host's for it."""


@dataclass
class SourceLatents:
    """The latents that frames of txt2img begin with. They are encoded once, and the same for all clips of a job.

    ``frames`` of each clip are kept; what is drawn behind them begins with the last one. A mask of the source's says
    what of them is drawn anew.
    """

    clip: Source
    settings: SourceClip
    frames: int
    _encoded: Tensor | None = field(default=None, init=False)
    _anew: Tensor | None = field(default=None, init=False)

    def attach(self, p: Any, undo: ExitStack) -> None:
        """Let the samplers that the host makes begin first passes of ``p`` so, until ``undo`` is closed.

        Hires fix goes on from the result. Raises MotionError, when a pass begins, if the source has fewer frames.
        """

        def put(sampler: Any) -> None:
            sampler.sample = self._from_latents(sampler)

        on_samplers(put, undo)

    def _from_latents(self, sampler: Any) -> Callable[..., Any]:
        """What stands in for ``sample`` of one of the host's samplers: its own way from an image, with our strength.

        The host's strength belongs to hires fix.
        """

        def sample(p: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
            latents = self._latents(p, len(x)).to(x)
            with ExitStack() as undo:
                undo.callback(patching.item(vars(p), STRENGTH, self.settings.source_strength))
                if self.clip.mask is None:
                    return sampler.sample_img2img(p, latents, x, *args, **kwargs)
                anew = self._masks(p, len(x)).to(x)
                for name, share in (("nmask", anew), ("mask", 1 - anew)):
                    undo.callback(patching.item(vars(p), name, share))
                return sampler.sample_img2img(p, latents, x, *args, **kwargs) * anew + latents * (1 - anew)

        return sample

    def _latents(self, p: Any, drawn: int) -> Tensor:
        """``[drawn, c, h, w]``."""
        if self._encoded is None:
            method = encode_method()
            pictures = self.clip.frames(self.frames, Size(p.width, p.height))
            self._encoded = torch.cat([encode(_tensor(picture), method).cpu() for picture in pictures])
        return _lengthened(self._encoded, drawn)

    def _masks(self, p: Any, drawn: int) -> Tensor:
        """Where they are drawn anew, 1 or 0, ``[drawn, 1, h, w]``."""
        if self._anew is None:
            masks = self.clip.masks(self.frames, Size(p.width, p.height), MASK_BLUR)
            self._anew = torch.from_numpy(np.stack([in_latents(mask) for mask in masks]))[:, None].float()
        return _lengthened(self._anew, drawn)


def _lengthened(rows: Tensor, drawn: int) -> Tensor:
    """As many rows as are ``drawn``; those behind are the last one."""
    return torch.cat([rows, rows[-1:].expand(drawn - len(rows), *rows.shape[1:])])


def encode_method() -> int:
    """The host's number of the encoder that its user has chosen."""
    methods = host_module("sd_samplers_common").approximation_indexes
    number: int = methods.get(option("sd_vae_encode_method", "Full"), 0)
    return number


def encode_picture(p: Any, picture: Any) -> Any:
    """A picture as latents ``[1, 4, h, w]``, made as the host makes its initial image's."""
    images = host_module("images")
    if isinstance(picture, str):
        picture = host_module("api.api").decode_base64_to_image(picture)
    flat = images.flatten(picture, option("img2img_background_color", "#ffffff"))
    sized = images.resize_image(min(p.resize_mode, 2), flat, p.width, p.height)
    pixels = torch.from_numpy(np.asarray(sized, dtype=np.float32) / 255).permute(2, 0, 1)[None]
    return encode(pixels, encode_method())


def _tensor(picture: Pixels) -> Tensor:
    """``[1, 3, h, w]`` from 0 to 1."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255
