"""The always-visible script "Motion": the host's callbacks, each handed on to the job of its `p`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from motion.errors import MotionError
from motion.extension import axes, cost, finish, infotext, output, runs
from motion.extension.models import prompt_loras
from motion.extension.page import panel
from motion.extension.planning import source as sources
from motion.extension.planning.plan import plan
from motion.hosts.webui import batches
from motion.hosts.webui import job as jobs
from motion.hosts.webui.backends.base import host_module, option
from motion.hosts.webui.finished import gather
from motion.hosts.webui.job import Job
from motion.hosts.webui.prompt import named_loras
from motion.settings.tab import TAB_FIELDS, Tab

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
        if tab == ("img2img" if self.is_img2img else "txt2img") and name in panel.around():
            self.around[name] = component
            self._follow_host()

    def _follow_host(self) -> None:
        if self.built is not None and self.around.keys() == panel.around():
            self.built.follow(self.around)

    def setup(self, p: Any, *args: Any) -> None:
        if _is_on(args):
            runs.watch(p)

    def before_process(self, p: Any, *args: Any) -> None:
        jobs.begin(p, lambda: read_args(args, axes.axis_changes(p)), plan)

    def process(self, p: Any, *args: Any) -> None:
        if job := Job.of(p):
            batches.name_seeds(p, job)

    def before_process_batch(self, p: Any, *args: Any, batch_number: int, **kwargs: Any) -> None:
        if job := Job.of(p):
            batches.one_prompt(p, job, batch_number)

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


def _pictures_per_frame(p: Any) -> int:
    """A masked frame is followed by its mask and its composite where the host is set to return them."""
    masked = getattr(p, "mask_for_overlay", None) is not None
    return 1 + masked * sum(bool(option(name, False)) for name in ("return_mask", "return_mask_composite"))
