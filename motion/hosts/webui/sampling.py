"""The scope around one job's sampling in a WebUI.

Everything that is changed in the host is changed from here, while `p.sample` runs, and taken back by one `ExitStack`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

import motion
from motion import patching
from motion.hosts.effects import effect_of
from motion.hosts.memory import staying_on
from motion.hosts.regions import Regions
from motion.hosts.webui.backends.base import as_set, host_module, loaded_base, on_samplers, option
from motion.hosts.webui.backends.detect import host, pictures_within_a_pass
from motion.hosts.webui.backends.mean import encoding_to_the_mean
from motion.hosts.webui.backends.slices import attach_slices
from motion.hosts.webui.first_passes import detour, rounds
from motion.hosts.webui.first_passes.inversion import Inversion
from motion.hosts.webui.guidance import Guidance
from motion.hosts.webui.key_frames import KeyFrameControls, Loaded
from motion.hosts.webui.progress import StepProgress
from motion.hosts.webui.prompt import texts_in_progress
from motion.hosts.webui.source import SourceLatents, encode_picture
from motion.models.motion.architecture import SCHEDULES, STABLE_DIFFUSION
from motion.models.motion.model import MotionModel
from motion.models.motion.positions import Positions
from motion.sampling.animation import attach_further, attach_windows
from motion.sampling.arrangement import Arrangement
from motion.sampling.effect import MotionEffect
from motion.sampling.lora import WeightedLora
from motion.sampling.noise import fade
from motion.sampling.unet_call import attach_inputs
from motion.sampling.windows import Windows
from motion.settings.tab import Tab
from motion.techniques.registry import techniques_of
from motion.techniques.technique import Techniques

FADE_SEED = 1 << 16
"""How far from the clip's seed the noise is drawn that initial images fade into."""
RELOADS = ("reload_model_weights", "forge_model_reload")
"""Functions of `modules.sd_models` by which hosts put another model in place (refiner, hires checkpoint)."""


class Sampling:
    """What one job attaches while it samples.

    A call `with sampling.scope(p): p.sample(...)` of the original `p.sample` moves; `before_pass` is told the
    conditioning of each pass of it before it begins.
    """

    def __init__(
        self,
        tab: Tab,
        module: MotionModel | None,
        windows: Windows,
        loras: Sequence[WeightedLora] = (),
        controls: Sequence[Loaded] = (),
        source: SourceLatents | None = None,
        further: Sequence[tuple[MotionModel, MotionEffect]] = (),
        regions: Regions | None = None,
    ) -> None:
        self.tab = tab
        self.module = module
        self.effect = effect_of(tab)
        self.further = further
        """Motion modules that act beside it."""
        self.loras = loras
        self.source = source
        """What txt2img begins with instead of noise."""
        self.of_prompt: Callable[[], Sequence[WeightedLora]] = tuple
        """What the prompt of the next call names besides, looked up in its scope."""
        self.by_frame: Sequence[WeightedLora] = ()
        """What it names that does not count the same in all frames."""
        self.arrangement = Arrangement(windows, pause=self._next_part)
        self.arrangement.states.append(self._texts)
        self._asked: tuple[Any, Mapping[str, Any]] | None = None
        """The denoiser of the step in progress, and with what it was called."""
        layers = sum(len(one.slots) for one in self._modules())
        self.progress = StepProgress(1 + layers if self.arrangement.whole else len(windows.at(0)))
        self.techniques = techniques_of(tab)
        self.guidance = Guidance(self.techniques, self.arrangement, tab.frames, pictures_within_a_pass(), regions)
        self.keys = KeyFrameControls(tab, controls, self.arrangement, bool(self.techniques.ask("takes_given")))
        self._attached = ExitStack()
        self._enlarges = False
        """Whether a second pass draws on the first's pictures, enlarged."""
        self._copied = False
        """Whether a pass has run with what is attached."""
        self._of_pass = ExitStack()
        self._go_on_guiding: Callable[[], None] = nothing
        """Lets techniques act on the pass in progress with another model."""

    @contextmanager
    def scope(self, p: Any) -> Iterator[None]:
        """Attach to the loaded model, and follow the host to another one (refiner, hires checkpoint)."""
        sd_models, rng = host_module("sd_models"), host_module("rng")
        with ExitStack() as undo:
            clip_noise = clip_noise_class(rng, self.tab, self.techniques, self.arrangement.windows)
            undo.callback(patching.item(vars(rng), "ImageRNG", clip_noise))
            p.rng = clip_noise.like(p.rng)
            undo.enter_context(staying_on(torch.device(host_module("shared").device), self._modules()))
            undo.callback(self._detach)
            self._enlarges = bool(getattr(p, "enable_hr", False))
            for note in motion.lora.notes(self.module, self._attach()):
                p.comment(note)
            for name in vars(sd_models).keys() & set(RELOADS):
                undo.callback(patching.item(vars(sd_models), name, self._around(getattr(sd_models, name))))
            self._hear_of_steps(undo)
            undo.callback(self._of_pass.close)
            if self.source is not None:
                self.source.attach(p, undo)
            if self.techniques.rounds > 1:
                rounds.draw_again(p, self.techniques, float(self._alphas()[-1]), self.arrangement, undo)
            if self.techniques.ask("inverts"):
                Inversion(self.tab.source_caption, self.guidance, self._alphas()).attach(p, undo)
            if self.techniques.have("detour"):
                detour.go_back(self.techniques, self._alphas(), undo)
            if p.sampler is not None:  # img2img has made it before, with the host's noise schedule
                p.sampler = host_module("sd_samplers").create_sampler(p.sampler_name, p.sd_model)
            if hasattr(p, "init_latent") and self.tab.fades:
                undo.callback(patching.item(vars(p), "init_latent", self._faded(p)))
            with self.keys.scope():
                yield

    def before_pass(self, p: Any, conditioning: Any, latents: Tensor) -> None:
        """Prepare the host for the pass that begins with this conditioning and latents of this size.

        Its steps count from 0, also those of hires fix: the pass is the same whatever was drawn before it.
        """
        self._of_pass.close()
        self.arrangement.restart()
        host().before_pass(p, conditioning, self.arrangement, self._to_come(), self._of_pass)
        self._copied = True
        self.keys.begin(latents)
        self.guidance.given = self.keys.given
        if self.guidance.acts:
            self.guidance.watch(p.sampler, self._alphas(), self._of_pass)
            self._of_pass.callback(setattr, self, "_go_on_guiding", nothing)
            self._go_on_guiding = host().guide(p, self.guidance, self._of_pass)

    def _to_come(self) -> Sequence[Tensor]:
        """The weights that this pass copies to where the UNet computes; most motion LoRAs are in the module's already.

        The copies of what is attached for the whole scope stay from its first pass on, those of encoders are of a pass.
        """
        weights: list[Tensor] = [weights for _, encoder in self.keys.shown for weights in encoder.parameters()]
        if self._copied:
            return weights
        pairs = motion.lora.copied([*self.loras, *self.by_frame])
        on_cpu = (module for module in self._modules() if next(module.parameters()).device.type == "cpu")
        temporal = [weights for module in on_cpu for weights in module.parameters()]
        return [*temporal, *weights, *(matrix for pair in pairs for matrix in (pair.down, pair.up))]

    def _modules(self) -> list[MotionModel]:
        return [*filter(None, [self.module]), *(module for module, _ in self.further)]

    def _next_part(self) -> None:
        stop_if_asked()
        self.progress.part_begins()

    def _hear_of_steps(self, undo: ExitStack) -> None:
        """Let the samplers that the host makes say when a step begins and when it ends."""

        def listen(sampler: Any) -> None:
            denoiser = getattr(sampler, "model_wrap_cfg", None)
            if isinstance(denoiser, nn.Module):
                undo.callback(patching.before(denoiser, self._step_begins, with_kwargs=True))
            if hasattr(sampler, "callback_state"):
                self.progress.follow_sampler(sampler)

        on_samplers(listen, undo)

    def _step_begins(self, denoiser: Any, _: Any, asked: Mapping[str, Any]) -> None:
        self._asked = denoiser, asked
        self.arrangement.step_begins(of=getattr(denoiser, "total_steps", None))

    def _texts(self) -> tuple[int, ...]:
        return () if self._asked is None else texts_in_progress(*self._asked)

    def _faded(self, p: Any) -> Any:
        """The initial image's latents, fading into noise and towards the last frame."""
        rng, seed = host_module("rng"), p.seeds[0] + FADE_SEED
        generator, shape = rng.create_generator(seed), p.init_latent.shape
        noise = rng.randn_without_seed(shape, generator=generator).to(p.init_latent)
        last = None if self.tab.last_frame is None else encode_picture(p, self.tab.last_frame)
        tab = self.tab
        scale = tab.fade_scale if tab.start == "first" or last is not None else math.inf
        return fade(p.init_latent, noise, tab.fade_power, scale, last, tab.frames, tab.initial_weight)

    def _attach(self) -> Sequence[WeightedLora]:
        """Attach to the loaded model; the LoRAs that are."""
        loras = [*self.loras, *self.of_prompt(), *self.by_frame]
        loaded_base()  # says it better than a UNet without a place for the layers
        if self.module is not None or self.tab.betas in SCHEDULES:
            host().put_schedule(self._alphas(), self._attached)
        unet, positions = host().unet(), Positions.of(self.tab)
        attach_slices(unet, self.tab, self.arrangement, host().free_memory, self._attached)
        if self.module is None:
            scope = attach_windows(unet, self.arrangement)
        else:
            frames = self.arrangement.frames
            scope = motion.attach(unet, self.module, frames, 1.0, self.arrangement, self.effect, positions)
        self._attached.enter_context(scope)
        for module, effect in self.further:
            self._attached.enter_context(attach_further(unet, module, self.arrangement, effect, positions))
        looking = motion.cross_frame.attach_by_settings(
            unet, self.tab, self.arrangement, self.tab.zero_shot, self.tab.frames
        )
        self._attached.enter_context(looking)
        self._attached.enter_context(motion.lora.attach(unet, self.module, loras, self.tab.frames, self.arrangement))
        self._attached.enter_context(motion.step_cache.attach_by_settings(unet, self.tab, self.arrangement))
        self.progress.follow_unet(unet, self._attached)
        if self.techniques.have("see"):
            self._attached.callback(attach_inputs(unet, self.arrangement, self.guidance.see))
        if self._enlarges:  # hires fix encodes what it has enlarged
            self._attached.enter_context(encoding_to_the_mean(host().vae()))
        self._copied = False
        return loras

    def _alphas(self) -> torch.Tensor:
        """The cumulative alphas to sample by, ``[1000]``; the checkpoint's own are those of all Stable Diffusion."""
        family = None if self.module is None else self.module.architecture.family
        schedule = family.schedule(self.tab.betas) if family else SCHEDULES.get(self.tab.betas, STABLE_DIFFUSION)
        return as_set(schedule.alphas_cumprod())

    def _detach(self) -> None:
        self._attached.close()

    def _around(self, reload: Callable[..., Any]) -> Callable[..., Any]:
        """A function of the host that may put another model in place, with the scope left meanwhile."""

        def around(*args: Any, **kwargs: Any) -> Any:
            self._detach()
            with self.keys.elsewhere():
                model = reload(*args, **kwargs)
                self._attach()
            self._go_on_guiding()
            return model

        return around


def nothing() -> None:
    """Where there is nothing to do."""


def stop_if_asked() -> None:
    """End the host's sampling as it does itself between two steps, where Interrupt or Skip was pressed.

    What it has then is what the last whole step has predicted.
    """
    state = host_module("shared").state
    if state.interrupted or state.skipped:
        raise host_module("sd_samplers_common").InterruptedException


def clip_noise_class(rng: Any, tab: Tab, techniques: Techniques, windows: Windows) -> Any:
    """The host's `ImageRNG` with the noise of a clip: in seed mode "clip" one stream for all frames, as the authors
    draw it; then what techniques make of it."""

    class ClipRNG(rng.ImageRNG):  # type: ignore[misc]
        @classmethod
        def like(cls, other: Any) -> ClipRNG:
            return cls(other.shape, other.seeds, other.subseeds, other.subseed_strength)

        def first(self) -> Any:
            noise = super().first() if tab.has_seeds else self._one_stream()
            return techniques.begin(noise, windows, self.seeds[0])

        def next(self) -> Any:
            if self.is_first or tab.step_noise == "own":
                return super().next()
            one = rng.randn_without_seed(self.shape, generator=self.generators[0])
            return torch.stack([one] * len(self.seeds)).to(host_module("shared").device)

        def _one_stream(self) -> Any:
            generator, noise = self._stream(self.seeds[0])
            if self.subseeds and self.subseed_strength:
                _, other = self._stream(self.subseeds[0])
                noise = [rng.slerp(self.subseed_strength, *pair) for pair in zip(noise, other, strict=True)]
            if delta := option("eta_noise_seed_delta", 0) or 0:
                generator = rng.create_generator(self.seeds[0] + delta)
            self.generators = [generator] * len(self.seeds)  # the sampler's own noise goes on from there
            return torch.stack(noise).to(host_module("shared").device)

        def _stream(self, seed: int) -> tuple[Any, list[Any]]:
            generator = rng.create_generator(seed)
            return generator, [rng.randn_without_seed(self.shape, generator=generator) for _ in self.seeds]

    return ClipRNG
