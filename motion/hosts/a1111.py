"""AUTOMATIC1111 1.10: the scope around one job's sampling.

Everything that is changed in the host is changed here, for as long as `p.sample` runs, and taken back by the same
`ExitStack`. The host's own modules are imported when a job runs: without the host this file imports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any

import numpy as np
import torch

import motion
from motion import patching
from motion.arrangement import Arrangement
from motion.network.model import MotionModel
from motion.noise import fade
from motion.settings import Tab

FADE_SEED = 1 << 16
"""How far from the clip's seed the noise is drawn that initial images fade into."""


def host_module(name: str) -> Any:
    """A module of the host, `modules.<name>`."""
    return import_module(f"modules.{name}")


def loaded_base() -> str | None:
    """What the loaded checkpoint is, "sd15" or "sdxl"; None if none is loaded or it is another kind. Loads nothing."""
    model = host_module("sd_models").model_data.sd_model
    if model is None:
        return None
    if getattr(model, "is_sdxl", False):
        return "sdxl"
    return "sd15" if getattr(model, "is_sd1", False) else None


class Sampling:
    """What one job attaches while it samples.

    A call `with sampling.scope(p): p.sample(...)` of the original `p.sample` moves; `prompts_known` is told the
    conditioning of each pass before it begins.
    """

    def __init__(self, tab: Tab, module: MotionModel, frames: int) -> None:
        self.tab = tab
        self.module = module
        self.arrangement = Arrangement(frames, closed=tab.loop == "closed")
        self._attached = ExitStack()
        self._options = ExitStack()

    @contextmanager
    def scope(self, p: Any) -> Iterator[None]:
        """Attach to the loaded model, and follow the host to another one (refiner, hires checkpoint)."""
        sd_models, rng = host_module("sd_models"), host_module("rng")
        with ExitStack() as undo:
            if self.tab.seed_mode == "clip":
                clip_noise = clip_noise_class(rng)
                undo.callback(patching.item(vars(rng), "ImageRNG", clip_noise))
                p.rng = clip_noise.like(p.rng)
            undo.callback(self._detach)
            self._attach()
            reload = self._around(sd_models.reload_model_weights)
            undo.callback(patching.item(vars(sd_models), "reload_model_weights", reload))
            if p.sampler is not None:  # img2img has made it before, with the host's noise schedule
                p.sampler = host_module("sd_samplers").create_sampler(p.sampler_name, p.sd_model)
            undo.callback(self._options.close)
            if hasattr(p, "init_latent") and (self.tab.start == "first" or self.tab.last_frame is not None):
                undo.callback(patching.item(vars(p), "init_latent", self._faded(p)))
            yield

    def prompts_known(self, conditioning: Any) -> None:
        """Note how many prompts each frame has; all frames have as many."""
        self.arrangement.prompts = len(conditioning.batch[0])
        self._options.close()
        if self.arrangement.prompts > 1:  # else the host may cut the batch in the middle of a clip
            options = host_module("shared").opts.data
            for name in ("batch_cond_uncond", "pad_cond_uncond"):
                self._options.callback(patching.item(options, name, True))

    def _faded(self, p: Any) -> Any:
        """The initial image's latents, fading into noise and towards the last frame."""
        rng, seed = host_module("rng"), p.seeds[0] + FADE_SEED
        generator, shape = rng.create_generator(seed), p.init_latent.shape
        noise = rng.randn_without_seed(shape, generator=generator).to(p.init_latent)
        last = None if self.tab.last_frame is None else encoded(p, self.tab.last_frame)
        return fade(p.init_latent, noise, self.tab.fade_power, self.tab.fade_scale, last)

    def _attach(self) -> None:
        model = host_module("shared").sd_model
        unet = model.model.diffusion_model
        family = self.module.architecture.family
        alphas = family.schedule(self.tab.betas).alphas_cumprod().to(model.alphas_cumprod)
        undo = self._attached
        # The host copies the second over the first before each batch.
        undo.callback(patching.item(model._buffers, "alphas_cumprod", alphas))
        undo.callback(patching.item(vars(model), "alphas_cumprod_original", alphas))
        arrangement = self.arrangement
        undo.enter_context(motion.attach(unet, self.module, arrangement.frames, self.tab.scale, arrangement))

    def _detach(self) -> None:
        self._attached.close()

    def _around(self, reload: Callable[..., Any]) -> Callable[..., Any]:
        """The host's `reload_model_weights`, which may put another model in place, with the scope left meanwhile."""

        def reload_model_weights(*args: Any, **kwargs: Any) -> Any:
            self._detach()
            model = reload(*args, **kwargs)
            self._attach()
            return model

        return reload_model_weights


def encoded(p: Any, picture: Any) -> Any:
    """A picture as latents ``[1, 4, h, w]``, made as the host makes its initial image's."""
    images, samplers_common = host_module("images"), host_module("sd_samplers_common")
    shared = host_module("shared")
    opts = shared.opts
    if isinstance(picture, str):
        picture = host_module("api.api").decode_base64_to_image(picture)
    flat = images.flatten(picture, opts.img2img_background_color)
    sized = images.resize_image(min(p.resize_mode, 2), flat, p.width, p.height)
    pixels = torch.from_numpy(np.asarray(sized, dtype=np.float32) / 255).permute(2, 0, 1)[None]
    method = samplers_common.approximation_indexes.get(opts.sd_vae_encode_method)
    pixels = pixels.to(shared.device, dtype=host_module("devices").dtype_vae)
    return samplers_common.images_tensor_to_samples(pixels, method, p.sd_model)


def clip_noise_class(rng: Any) -> Any:
    """The host's `ImageRNG` with one stream of noise for all frames of a clip, as the authors draw it."""

    class ClipRNG(rng.ImageRNG):  # type: ignore[misc]
        @classmethod
        def like(cls, other: Any) -> ClipRNG:
            return cls(other.shape, other.seeds, other.subseeds, other.subseed_strength)

        def first(self) -> Any:
            shared = host_module("shared")
            generator, noise = self._stream(self.seeds[0])
            if self.subseeds and self.subseed_strength:
                _, other = self._stream(self.subseeds[0])
                noise = [rng.slerp(self.subseed_strength, *pair) for pair in zip(noise, other, strict=True)]
            if delta := shared.opts.eta_noise_seed_delta or 0:
                generator = rng.create_generator(self.seeds[0] + delta)
            self.generators = [generator] * len(self.seeds)  # the sampler's own noise goes on from there
            return torch.stack(noise).to(shared.device)

        def _stream(self, seed: int) -> tuple[Any, list[Any]]:
            generator = rng.create_generator(seed)
            return generator, [rng.randn_without_seed(self.shape, generator=generator) for _ in self.seeds]

    return ClipRNG
