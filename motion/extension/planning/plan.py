"""A clip's job as it is planned: what the tab asks for is found, loaded and refused before the host does anything."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import motion
from motion.errors import MotionError
from motion.extension import infotext, options, places
from motion.extension.models import few_step_files, further_modules, library, load, loras, prompt_lora, remember_module
from motion.extension.planning import initial_images, key_frames
from motion.extension.planning import source as sources
from motion.fields.table import Size
from motion.hosts.source import Source
from motion.hosts.webui import checks
from motion.hosts.webui import job as jobs
from motion.hosts.webui.backends.base import option
from motion.hosts.webui.backends.detect import host
from motion.hosts.webui.beside import scripts as beside
from motion.hosts.webui.continuation import Continued
from motion.hosts.webui.first_passes.inversion import check_inversion
from motion.hosts.webui.guidance import check_samplers, check_step_noise
from motion.hosts.webui.job import Job
from motion.hosts.webui.key_frames import Loaded
from motion.hosts.webui.sampling import Sampling
from motion.hosts.webui.source import SourceLatents
from motion.models.motion.model import MotionModel
from motion.sampling.effect import MotionEffect
from motion.sampling.windows import plan as plan_windows
from motion.settings.tab import Tab
from motion.techniques.registry import check, techniques_of
from motion.techniques.technique import Plan as TechniquePlan


def plan(p: Any, tab: Tab) -> Job:
    """Find and load what the clip needs, and refuse what cannot be done, before the host does anything."""
    with ExitStack() as undo:
        job = _planned(p, tab, undo)
        job.undo = undo.pop_all()
    return job


def _planned(p: Any, tab: Tab, undo: ExitStack) -> Job:
    """The job, until whose end what is put on ``undo`` is there."""
    host()  # says what is missing
    size = checks.final_size(p)
    _check_settings(p, tab, size)
    entry = None if tab.zero_shot else library().find(tab.module)
    module = None if entry is None else load(entry, tab.family)
    windows = plan_windows(tab, None if module is None else module.architecture)
    beside.check(p, windows, tab.cross_frame_mode(tab.zero_shot) != "none", tab.cache != "off")
    asked = key_frames.settle_pictures(tab)
    source = sources.open_source(asked)
    tab, continued = _continued(asked, source, module, size)
    drawn = sources.settle_masks(key_frames.settle(tab))
    clip = source if continued is None else None
    controls = key_frames.load(tab, sources.key_images(clip, tab, size) if continued is None else continued.images())
    begins_with = clip if tab.source_latents else None
    _check_techniques(p, drawn, controls, begins_with is None and not hasattr(p, "init_images"))
    tab = sources.detect_masks(tab, begins_with, undo)
    kept = sources.open_kept(p, tab, begins_with)
    initial_images.settle(p, tab.frames, windows.frames, begins_with)
    active, further = loras(drawn), _further(drawn, module)
    latents, regions = _source_latents(p, tab, kept or begins_with), sources.open_regions(p, tab)
    if module is not None and entry is not None:
        remember_module(module.architecture.family.base, entry.name)
    _tell(p, tab)
    return Job(
        tab=tab,
        sampling=Sampling(drawn, module, windows, active, controls, latents, further, regions),
        frames=windows.frames,
        clips=jobs.clip_count(p),
        own=jobs.own_values(p),
        infotext={
            **infotext.to_infotext(asked, entry, hasattr(p, "init_images"), option(options.ALL_SETTING, False)),
            **sources.describe(source),
        },
        several_prompts=isinstance(p.prompt, list),
        hints=sources.hints(clip, tab, windows.frames, size),
        initial=initial_images.given(p, tab, windows.frames, begins_with, kept),
        kept=kept,
        find_lora=prompt_lora,
        continued=continued,
        prompted=partial(motion.lora.add_trigger_words, loras=active, frames=tab.frames) if tab.trigger_words else str,
    )


def _check_settings(p: Any, tab: Tab, size: Size) -> None:
    """Raise MotionError for what the tab's and the host's settings do not do together, before any file is opened."""
    if getattr(p, "txt2img_upscale", False):
        raise MotionError("the upscale button takes one picture: turn Motion off, or draw the clip with Hires. fix")
    checks.check_output(size, tab)
    places.check(p, tab.frames)
    checks.check_prompts(p, tab)
    if not tab.has_seeds and p.seed_resize_from_w > 0 and p.seed_resize_from_h > 0:
        raise MotionError("resize seed is for single pictures: turn it off, or set Motion's seed mode to Frame")


def _tell(p: Any, tab: Tab) -> None:
    """Say under the clip what its settings and a file for few steps have against each other."""
    files = few_step_files(tab.module, [lora.name for lora in tab.loras], str(p.prompt))
    if note := checks.few_steps_note(p, *files):
        p.comment(note)


def _further(tab: Tab, module: MotionModel | None) -> list[tuple[MotionModel, MotionEffect]]:
    further = further_modules(tab)
    if further and module is None:
        raise MotionError("further motion modules go beside a first one: choose a Motion module")
    return further


def _continued(tab: Tab, source: Source | None, module: MotionModel | None, size: Size) -> tuple[Tab, Continued | None]:
    """The clip that goes on, if there is one, and the tab as its rounds are drawn."""
    continued = sources.open_continuation(tab, source, size)
    if continued is None:
        return tab, None
    return continued.clip.settings(tab, key_frames.fits_usual_encoder(module, tab.key_scale)), continued


def _check_techniques(p: Any, tab: Tab, controls: Sequence[Loaded], begins_with_noise: bool) -> None:
    """Raise MotionError for a technique that cannot act on the clip."""
    techniques = techniques_of(tab)
    held = [frame for control, _ in controls for frame in control.images]
    check(techniques, TechniquePlan(p.cfg_scale, held, begins_with_noise, tab.frames, p.sampler_name))
    samplers = [getattr(p, name, None) for name in ("sampler_name", "hr_sampler_name")]
    check_samplers(techniques, samplers)
    check_step_noise(tab.step_noise, samplers)
    if techniques.ask("inverts"):
        check_inversion(p, tab)


def _source_latents(p: Any, tab: Tab, clip: Source | None) -> SourceLatents | None:
    """What txt2img begins with."""
    return None if clip is None or hasattr(p, "init_images") else SourceLatents(clip, tab, tab.frames)
