"""The always-visible script "Motion": the host's callbacks, each handed on to the job of its `p`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle, islice, repeat
from types import MappingProxyType
from typing import Any

import motion
from motion.errors import MotionError
from motion.extension import axes, cost, finish, infotext, key_frames, options, output, places, runs
from motion.extension import source as sources
from motion.extension.models import further_modules, library, load, loras, prompt_loras, remember_module
from motion.extension.page import panel
from motion.extension.page.plan_row import HOST
from motion.fields.table import Size
from motion.hosts.source import Source
from motion.hosts.webui import beside, checks, initial_images
from motion.hosts.webui import job as jobs
from motion.hosts.webui.backends.base import host_module, option
from motion.hosts.webui.backends.detect import host
from motion.hosts.webui.continuation import Continued
from motion.hosts.webui.finished import gather
from motion.hosts.webui.guidance import check_samplers, check_step_noise
from motion.hosts.webui.initial_images import Initial
from motion.hosts.webui.job import Job
from motion.hosts.webui.key_frames import Loaded
from motion.hosts.webui.prompt import named_loras
from motion.hosts.webui.sampling import Sampling
from motion.hosts.webui.source import SourceLatents
from motion.models.motion.model import MotionModel
from motion.sampling.windows import plan as plan_windows
from motion.settings.tab import TAB_FIELDS, Tab
from motion.techniques.registry import check, techniques_of
from motion.techniques.technique import Plan as TechniquePlan

scripts = host_module("scripts")

TITLE = "Motion"


class MotionScript(scripts.Script):  # type: ignore[misc, name-defined]
    """One instance per tab; nothing of a job is kept here."""

    built: panel.Panel | None = None

    def __init__(self) -> None:
        super().__init__()
        self.around: dict[str, Any] = {}
        """The tab's own components that Motion's page follows, by name."""

    def title(self) -> str:
        return TITLE

    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        self.built = built = panel.build(self.elem_id, is_img2img)
        self.infotext_fields = built.infotext_fields
        self.paste_field_names = list(infotext.PASTED.values())
        self._follow_host()
        return built.components

    def after_component(self, component: Any, **kwargs: Any) -> None:
        """The host calls this for every component of the tab; they stand above or below, as the user likes."""
        tab, _, name = str(kwargs.get("elem_id")).partition("_")
        if tab == ("img2img" if self.is_img2img else "txt2img") and name in HOST:
            self.around[name] = component
            self._follow_host()

    def _follow_host(self) -> None:
        if self.built is not None and self.around.keys() == set(HOST):
            self.built.follow(self.around)

    def setup(self, p: Any, *args: Any) -> None:
        if _is_on(args):
            runs.watch(p)

    def before_process(self, p: Any, *args: Any) -> None:
        jobs.begin(p, lambda: read_args(args, axes.axis_changes(p)), plan)

    def process(self, p: Any, *args: Any) -> None:
        if job := Job.of(p):
            jobs.name_seeds(p, job)

    def before_process_batch(self, p: Any, *args: Any, batch_number: int, **kwargs: Any) -> None:
        if job := Job.of(p):
            jobs.one_prompt(p, job, batch_number)

    def after_extra_networks_activate(self, p: Any, *args: Any, **kwargs: Any) -> None:
        if job := Job.of(p):
            named = list(named_loras(kwargs.get("extra_network_data") or {}))
            job.sampling.of_prompt = partial(prompt_loras, named)

    def process_before_every_sampling(self, p: Any, *args: Any, **kwargs: Any) -> None:
        if job := Job.of(p):
            job.sampling.before_pass(p, kwargs["c"], kwargs["x"])

    def postprocess_batch_list(self, p: Any, pp: Any, *args: Any, **kwargs: Any) -> None:
        if job := Job.of(p):
            pp.images[:] = pp.images[: job.tab.frames]
            finish.finish(p, job.tab, job.sampling.keys.controls, pp.images)
            if job.kept is not None:
                finish.put_back(job.kept, p, pp.images)
            job.done += 1
            if job.continued is not None:
                job.continued.round_ends(job.done, pp.images, job.sampling.keys)

    def postprocess_maskoverlay(self, p: Any, ppmo: Any, *args: Any) -> None:
        if (job := Job.of(p)) and job.masks:
            ppmo.mask_for_overlay = job.masks[ppmo.index]

    def postprocess(self, p: Any, processed: Any, *args: Any) -> None:
        job = Job.of(p)
        if job is None or not processed.images:
            return  # another extension rehearses the end of a job that goes on (ADetailer)
        jobs.end(p, job)
        if job.done and not getattr(p, "enable_hr", False):
            cost.of_job(p, job).remember(time.monotonic() - job.started)
        clips, others = gather(job, processed.images, processed.infotexts, _pictures_per_frame(p))
        files = output.deliver(p, processed, job, clips)
        if run := runs.of(p):
            run.gather(job, clips, processed.images[: len(clips)], files)
        processed.images += others


def _is_on(args: Sequence[Any]) -> bool:
    given = args[0] if args else False
    return bool(given.get("enabled", True)) if isinstance(given, Mapping) else given is True


def read_args(args: Sequence[Any], changed: Mapping[str, Any] = MappingProxyType({})) -> Tab:
    """The tab's settings from the host's positional arguments, or from one table by field name (the API), with those
    that an axis of the X/Y/Z plot has `changed`.

    Raises MotionError for a name or a value that is none of the fields'.
    """
    if args and isinstance(args[0], Mapping):
        given = sources.follow({"enabled": True, **args[0]})
        unknown = given.keys() - TAB_FIELDS.keys()
        if unknown:
            raise MotionError(f"Motion has no setting {min(unknown)!r}: the names are {', '.join(TAB_FIELDS)}")
        return Tab(**{**given, **changed})
    return Tab(**{**dict(zip(TAB_FIELDS, args, strict=False)), **changed})


def plan(p: Any, tab: Tab) -> Job:
    """Find and load what the clip needs, and refuse what cannot be done, before the host does anything."""
    host()  # says what is missing
    if getattr(p, "txt2img_upscale", False):
        raise MotionError("the upscale button takes one picture: turn Motion off, or draw the clip with Hires. fix")
    size = checks.final_size(p)
    checks.check_output(size, tab)
    places.check(p, tab.frames)
    checks.check_prompts(p, tab)
    if not tab.has_seeds and p.seed_resize_from_w > 0 and p.seed_resize_from_h > 0:
        raise MotionError("resize seed is for single pictures: turn it off, or set Motion's seed mode to Frame")
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
    kept = sources.open_kept(p, tab, begins_with)
    _check_techniques(p, drawn, controls, begins_with is None and not hasattr(p, "init_images"))
    _settle_initial_images(p, tab.frames, windows.frames, begins_with)
    active, further = loras(drawn), further_modules(drawn)
    if further and module is None:
        raise MotionError("further motion modules go beside a first one: choose a Motion module")
    regions = sources.open_regions(p, tab)
    if module is not None and entry is not None:
        remember_module(module.architecture.family.base, entry.name)
    return Job(
        tab=tab,
        sampling=Sampling(
            drawn, module, windows, active, controls, _source_latents(p, tab, kept or begins_with), further, regions
        ),
        frames=windows.frames,
        clips=jobs.clip_count(p),
        own=jobs.own_values(p),
        infotext={
            **infotext.to_infotext(asked, entry, hasattr(p, "init_images"), option(options.ALL_SETTING, False)),
            **sources.describe(source),
        },
        several_prompts=isinstance(p.prompt, list),
        hints=sources.hints(clip, tab, windows.frames, size),
        initial=_initial_images(p, tab, windows.frames, begins_with, kept),
        kept=kept,
        continued=continued,
        prompted=partial(motion.lora.add_trigger_words, loras=active, frames=tab.frames) if tab.trigger_words else str,
    )


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


def _source_latents(p: Any, tab: Tab, clip: Source | None) -> SourceLatents | None:
    """What txt2img begins with."""
    return None if clip is None or hasattr(p, "init_images") else SourceLatents(clip, tab, tab.frames)


def _initial_images(
    p: Any, tab: Tab, drawn: int, clip: Source | None, kept: Source | None
) -> Callable[[], Iterable[Initial]] | None:
    """What img2img begins with, where frames have images or masks of their own; see `_settle_initial_images`."""
    mask = sources.open_mask(p, tab, clip)
    if not hasattr(p, "init_images") or (clip is None and mask is None):
        return None
    images, count, size = p.init_images, tab.frames, Size(p.width, p.height)
    pictures = partial(initial_images.frames_of, behind=drawn - count)

    def given() -> Iterator[Initial]:
        if kept is not None:
            return map(Initial, pictures(kept.frames(count, size)), pictures(kept.masks(count, size, 0)))
        of_frames = islice(cycle(images), drawn) if clip is None else pictures(clip.pictures(count))
        return map(Initial, of_frames, repeat(None) if mask is None else pictures(mask.pictures(count)))

    return given


def _settle_initial_images(p: Any, frames: int, drawn: int, clip: Source | None) -> None:
    """img2img: one initial image for all frames, or one for each; what is drawn besides begins with the last one. The
    source clip's first frame stands for all of its."""
    if clip is not None and hasattr(p, "init_images"):
        p.init_images = list(initial_images.frames_of(clip.pictures(1)))
    images = getattr(p, "init_images", None) or []
    if len(images) > 1 and all(image is images[0] for image in images):
        images = p.init_images = images[:1]  # the host's batch tab gives one per picture of the batch
    if len(images) not in (0, 1, frames, drawn):
        raise MotionError(f"{len(images)} initial images for {frames} frames: give one, or one for each frame")
    if len(images) > 1:
        p.init_images = [*images, *images[-1:] * (drawn - len(images))]


def _pictures_per_frame(p: Any) -> int:
    """A masked frame is followed by its mask and its composite where the host is set to return them."""
    masked = getattr(p, "mask_for_overlay", None) is not None
    return 1 + masked * sum(bool(option(name, False)) for name in ("return_mask", "return_mask_composite"))
