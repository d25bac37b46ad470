"""One job of the host as a clip: planned before it begins, attached while it samples, gathered when it is done.

All of its state hangs on the host's processing object `p`. The host logs and swallows what its scripts raise and goes
on to make stills, so nothing is raised here: what is wrong is kept, and raised from `p.sample`, which the host obeys.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from motion import patching
from motion.hosts.controls import Pixels
from motion.hosts.memory import memory_error_told
from motion.hosts.source import Source
from motion.hosts.webui import prompt_loras
from motion.hosts.webui.backends.detect import host
from motion.hosts.webui.backends.mean import encoding_to_the_mean
from motion.hosts.webui.continuation import Continued
from motion.hosts.webui.controlnet import units as controlnet
from motion.hosts.webui.controlnet.inputs import Clip as ControlNetClip
from motion.hosts.webui.controlnet.inputs import Shown
from motion.hosts.webui.initial_images import Initial, encode_one_by_one, leave_overlays
from motion.hosts.webui.prompt import put_styles_around
from motion.hosts.webui.refusals import Refused, refusals
from motion.hosts.webui.travel import Travel
from motion.settings.tab import Tab
from motion.video.loop import play_order

OWN = (
    "batch_size",
    "n_iter",
    "prompt",
    "negative_prompt",
    "seed",
    "subseed",
    "do_not_save_grid",
    "do_not_save_samples",
)
"""Attributes of `p` that a clip needs otherwise; they are put back when the job ends."""
ATTRIBUTE = "_motion"
"""The attribute of `p` that leads to its job."""
NETWORKS, CONDITIONS, IMAGES = "parse_extra_network_prompts", "get_conds_with_caching", "init"
"""The methods of `p` by which the host takes LoRAs out of prompts, and has these and initial images encoded."""

LESS = "draw smaller ones, or fewer at a time (Context length)"
"""What to do where they do not fit into memory."""


class Sample:
    """What stands in for `p.sample` of one job, and where the job is found again: other extensions wrap it in turn.

    Its `networks` and `conditions` stand in for what reads the job's prompts, its `images` for what encodes its images,
    where a job that is refused ends already: the host would complain of its images first.
    """

    def __init__(self, p: Any, job: Job | None, refusal: Refused | None = None) -> None:
        self.p, self.job, self.refusal = p, job, refusal
        self.over = False
        self.before = vars(p).get("sample")
        self.original: Callable[..., Any] = p.sample
        p.sample = self
        setattr(p, ATTRIBUTE, self)
        self.encode_images = getattr(p, IMAGES)
        if job is not None:
            self.take_networks = getattr(p, NETWORKS)
            named = partial(prompt_loras.named_in_text, p)
            self.travel = Travel(getattr(p, CONDITIONS), job.tab, job.frames, named)
        for name, own in self._methods().items():
            setattr(p, name, own)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.over:
            return self.original(*args, **kwargs)
        if self.refusal is not None:
            raise self.refusal
        with self._over_if_it_fails() as job, ExitStack() as undo:
            undo.enter_context(job.sampling.scope(self.p))
            controlnet.hints_by_frame(self.p, job.sampling.arrangement, undo, job.shown)
            return self.original(*args, **kwargs)

    def networks(self) -> None:
        """Take LoRAs out of the prompts; see `prompt_loras`."""
        asked = {} if self.over else prompt_loras.asked(self.p)
        self.take_networks()
        if not self.over:
            with self._over_if_it_fails() as job:
                job.sampling.by_frame = found = prompt_loras.take(self.p, asked, job.tab, job.find_lora)
                self.travel.tagged = self.p.prompts[0] if any(lora.tells_text for lora, _ in found) else ""

    def conditions(self, *args: Any, **kwargs: Any) -> Any:
        """The conditions of each frame; see `Travel`."""
        if self.over:
            return self.travel.original(*args, **kwargs)
        with self._over_if_it_fails():
            return self.travel(*args, **kwargs)

    def images(self, *args: Any, **kwargs: Any) -> Any:
        """Encode the initial images; each to the mean of what the VAE gives, so the same each time."""
        if self.refusal is not None and not self.over:
            raise self.refusal
        if self.over or not getattr(self.p, "init_images", None):
            return self.encode_images(*args, **kwargs)
        with encoding_to_the_mean(host().vae()):
            if self.job is None or self.job.initial is None:
                return self.encode_images(*args, **kwargs)
            with self._over_if_it_fails() as job:
                job.masks = encode_one_by_one(self.p, self.job.initial(), self.encode_images, args, kwargs)
                if job.kept is not None:
                    job.masks = ()
                    leave_overlays(self.p)

    def _methods(self) -> dict[str, Callable[..., Any]]:
        """What stands in for methods of `p`, by their names."""
        if self.job is None:
            return {IMAGES: self.images}
        return {NETWORKS: self.networks, CONDITIONS: self.conditions, IMAGES: self.images}

    @contextmanager
    def _over_if_it_fails(self) -> Iterator[Job]:
        """The host forgets a job that fails: what was changed for all of it is then taken back here."""
        assert self.job is not None
        with refusals(), memory_error_told(self.job.together, LESS), ExitStack() as failed:
            failed.callback(self.job.undo.close)
            failed.callback(setattr, self, "over", True)
            yield self.job
            failed.pop_all()

    def leave(self, p: Any) -> None:
        """Take this off `p`; where somebody has wrapped it, it only hands on from now on, unless it is another's."""
        vars(p).pop(ATTRIBUTE, None)
        if vars(p).get("sample") is self:
            del p.sample
            if self.before is not None:
                p.sample = self.before
        for name, own in self._methods().items():
            if vars(p).get(name) == own:
                delattr(p, name)
        self.over = self.over or p is self.p


@dataclass
class Job:
    """A clip that is being made: `frames` of each are drawn and `tab.frames` kept; `clips` in all, each a batch or, of
    one that goes on, several."""

    tab: Tab
    sampling: Any
    frames: int
    clips: int
    own: Mapping[str, Any]
    infotext: Mapping[str, str]
    several_prompts: bool
    prompted: Callable[[str], str] = str
    """What a prompt becomes: itself and the trigger words of the LoRAs in use."""
    find_lora: Callable[[str], Any] = str
    """Opens the LoRA that prompts call by a name."""
    initial: Callable[[], Iterable[Initial]] | None = None
    """What frames begin with in img2img, where the host is not to encode its own images all at once."""
    hints: Callable[[], Iterable[Pixels]] | None = None
    """What ControlNet's units without an image of their own are shown, one for each frame that is drawn."""
    shown: Sequence[Shown | None] = ()
    """What ControlNet's enabled units are shown frame by frame."""
    masks: Sequence[Any] = ()
    """The mask of each frame in its size, where they have masks of their own."""
    kept: Source | None = None
    """What is put back of the source around what is drawn: outside of its mask, or of a part that is drawn by itself.
    """
    continued: Continued | None = None
    """The clip that goes on; its rounds are batches of their own."""
    started: float = field(default_factory=time.monotonic)
    done: int = 0
    """Clips that the host has finished."""
    undo: ExitStack = field(default_factory=ExitStack)

    @property
    def together(self) -> str:
        """What the UNet computes at a time, in a sentence, with its verb."""
        return f"{self.sampling.arrangement.windows.size} frames at a time do"

    @property
    def parts(self) -> Sequence[Sequence[int]]:
        """The frames that stay of each batch of a clip, in the order they are played."""
        return [play_order(self.tab.frames, self.tab.loop)] if self.continued is None else self.continued.parts

    @property
    def batches(self) -> int:
        """Of the host's, for all clips."""
        return self.clips * len(self.parts)

    def length(self, new: int) -> int:
        """How many frames a clip has with so many that were drawn."""
        return new if self.continued is None else self.continued.have + new

    def played(self, drawn: Pixels) -> Iterable[Pixels]:
        """The frames of a clip's file, of those that were drawn of it, ``[n, h, w, 3]``."""
        return drawn if self.continued is None else self.continued.whole(drawn)

    @classmethod
    def of(cls, p: Any) -> Job | None:
        """The job of this very `p`, not of one that it was copied from."""
        sample = vars(p).get(ATTRIBUTE)
        running = isinstance(sample, Sample) and sample.p is p and not sample.over
        return sample.job if running else None


def begin(p: Any, tab: Callable[[], Tab], plan: Callable[[Any, Tab], Job]) -> None:
    """Called before the host does anything: plan the clip and take `p` over, or see to it that it makes nothing."""
    if Job.of(p) is not None:
        return  # another extension runs the callbacks of a job in progress again (ADetailer)
    inner = _is_of_a_clip(p)
    for stale in (vars(p).get(ATTRIBUTE), vars(p).get("sample")):
        if isinstance(stale, Sample):  # of a job that has failed, or that this p was copied from
            stale.leave(p)
    try:
        settings = tab()
        if settings.enabled and not inner:
            job = plan(p, settings)
            with ExitStack() as undo:
                undo.callback(job.undo.close)
                _take_over(p, job)
                undo.pop_all()
            Sample(p, job)
    except Exception as error:  # whatever it is, stills are not what was asked for
        controlnet.stand_down(p)
        Sample(p, None, Refused(error))


def _is_of_a_clip(p: Any) -> bool:
    """Whether another extension makes a picture for a clip in progress, with Motion's settings but no clip in mind:
    ADetailer, which says so, or one that has copied the clip's `p`."""
    sample = vars(p).get(ATTRIBUTE)
    copied = isinstance(sample, Sample) and sample.p is not p and sample.job is not None and not sample.over
    return copied or getattr(p, "_ad_inner", False)


def own_values(p: Any) -> dict[str, Any]:
    """The values of `p` that a clip changes."""
    return {name: getattr(p, name) for name in OWN}


def clip_count(p: Any) -> int:
    """Pictures that `p` was to make, each of which is a clip now."""
    lists = [value for value in (p.prompt, p.negative_prompt) if isinstance(value, list)]
    return len(lists[0]) if lists else p.n_iter * p.batch_size


def _take_over(p: Any, job: Job) -> None:
    """One clip is one batch of the host's."""
    p.batch_size, p.n_iter = job.frames, job.batches
    put_styles_around(p, job.tab.frames, job.undo)
    p.prompt = list(map(job.prompted, p.prompt)) if isinstance(p.prompt, list) else job.prompted(p.prompt)
    for name in ("prompt", "negative_prompt", "seed", "subseed"):
        value = getattr(p, name)
        if isinstance(value, list):
            setattr(p, name, [one for one in value for _ in range(job.frames * len(job.parts))])
    clip = ControlNetClip(job.frames, job.tab.frames, job.hints, job.tab.loop == "closed")
    job.shown = controlnet.units_per_frame(p, clip, job.undo)
    if job.kept is not None and hasattr(p, "inpaint_full_res"):  # the host would cut it out again
        job.undo.callback(patching.item(vars(p), "inpaint_full_res", False))
    p.do_not_save_grid = True
    if "frames" not in job.tab.formats:
        p.do_not_save_samples = True
    # A table of its own: a plot's cells are copies of one `p`, and what one of them says is not true of the next.
    p.extra_generation_params = {**p.extra_generation_params, **job.infotext}


def end(p: Any, job: Job) -> None:
    """Leave `p` as it was found."""
    job.undo.close()
    vars(p)[ATTRIBUTE].leave(p)
    for name, value in job.own.items():
        setattr(p, name, value)
