"""The job on the host's processing object: taken over, refused, and left as it was found."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from motion.errors import MotionError
from motion.hosts.webui import batches, checks
from motion.hosts.webui import job as jobs
from motion.hosts.webui.finished import gather
from motion.hosts.webui.job import Job
from motion.hosts.webui.refusals import Refused
from motion.sampling.arrangement import Arrangement
from motion.sampling.windows import Windows
from motion.settings.tab import Tab

from .conftest import TASK

FRAMES = 4

FULL = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


class Processing:
    """What of the host's processing object a job looks at."""

    def __init__(self) -> None:
        self.batch_size, self.n_iter = 1, 2
        self.prompt: Any = "a cat"
        self.negative_prompt: Any = ""
        self.seed: Any = 7
        self.subseed: Any = 100
        self.subseed_strength = 0.0
        self.do_not_save_grid = self.do_not_save_samples = False
        self.extra_generation_params: dict[str, Any] = {}
        self.scripts = None
        self.styles: list[str] = []

    def init(self, prompts: Any, seeds: Any, subseeds: Any) -> None:
        pass

    def sample(self, value: str) -> str:
        return f"sampled {value}"

    def parse_extra_network_prompts(self) -> None:
        pass

    def get_conds_with_caching(self, function: Any, prompts: Any, steps: int, caches: Any, *more: Any) -> Any:
        return function(prompts)


class Sampling:
    """A scope that notes when it is open."""

    open = False
    arrangement = Arrangement(Windows(FRAMES))

    @contextmanager
    def scope(self, p: Any) -> Iterator[None]:
        self.open = True
        try:
            yield
        finally:
            self.open = False


def plan(p: Any, tab: Tab) -> Job:
    lists = isinstance(p.prompt, list)
    return Job(
        tab, Sampling(), FRAMES, jobs.clip_count(p), jobs.own_values(p), {"Motion frames": str(tab.frames)}, lists
    )


def begun(p: Any, **settings: Any) -> Job:
    jobs.begin(p, lambda: Tab(**{"enabled": True, "frames": FRAMES, **settings}), plan)
    job = Job.of(p)
    assert job is not None
    return job


def test_disabled_leaves_no_trace() -> None:
    p = Processing()
    before = dict(vars(p))
    jobs.begin(p, Tab, plan)
    assert vars(p) == before
    assert Job.of(p) is None


def test_a_clip_is_one_batch_and_every_picture_a_clip() -> None:
    p = Processing()
    p.batch_size = 3
    job = begun(p)
    assert (p.batch_size, p.n_iter, job.clips) == (FRAMES, 6, 6)
    assert p.do_not_save_grid
    assert p.do_not_save_samples
    assert p.extra_generation_params == {"Motion frames": "4"}
    p = Processing()
    begun(p, formats=["gif", "frames"])
    assert not p.do_not_save_samples


def test_a_list_of_prompts_is_a_clip_of_each() -> None:
    p = Processing()
    p.prompt, p.seed, p.n_iter = ["a", "b", "c"], [5, 6, 7], 2
    job = begun(p)
    assert p.prompt == [*"aaaa", *"bbbb", *"cccc"]
    assert p.seed[:5] == [5, 5, 5, 5, 6]
    assert (p.n_iter, job.several_prompts) == (3, True)


def test_the_end_leaves_everything_as_found() -> None:
    p = Processing()
    before = dict(vars(p))
    job = begun(p)
    jobs.end(p, job)
    assert {**vars(p), "extra_generation_params": {}} == {**before, "extra_generation_params": {}}
    assert p.sample("x") == "sampled x"


def test_sampling_runs_in_the_scope_and_the_scope_ends_with_an_error() -> None:
    p = Processing()
    p.sample = lambda value: (value, Job.of(p).sampling.open)  # type: ignore[union-attr, method-assign, assignment, return-value]
    job = begun(p)
    assert p.sample("x") == ("x", True)  # type: ignore[comparison-overlap]
    assert not job.sampling.open
    jobs.end(p, job)
    assert p.sample.__name__ == "<lambda>"

    q = Processing()
    q.sample = lambda value: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    job = begun(q)
    with pytest.raises(ZeroDivisionError):
        q.sample("x")
    assert not job.sampling.open


def test_what_is_wrong_at_the_end_of_the_scope_is_a_refusal_too(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def scope(p: Any) -> Iterator[None]:
        yield
        raise MotionError("nothing was done")

    p = Processing()
    job = begun(p)
    monkeypatch.setattr(job.sampling, "scope", scope)
    with pytest.raises(Refused, match="nothing was done"):
        p.sample("x")
    assert Job.of(p) is None
    assert p.sample("y") == "sampled y"


def test_memory_that_is_used_up_while_sampling_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Processing, value: str) -> str:
        raise FULL

    monkeypatch.setattr(Processing, "sample", full)
    p = Processing()
    begun(p)
    with pytest.raises(Refused) as refused:
        p.sample("x")
    wanted = f"{FRAMES} frames at a time do not fit into memory: draw smaller ones, or fewer at a time (Context length)"
    assert (refused.value.status_code, refused.value.detail) == (422, wanted)
    assert Job.of(p) is None


def test_another_extension_may_wrap_the_sampling_and_leave_it_wrapped() -> None:
    p = Processing()
    job = begun(p)
    ours = p.sample
    p.sample = lambda value: ours(value) + " in control"  # type: ignore[method-assign, assignment]
    assert Job.of(p) is job
    assert p.sample("x") == "sampled x in control"
    jobs.end(p, job)
    assert p.sample("x") == "sampled x in control"
    assert Job.of(p) is None
    p.sample = ours  # type: ignore[method-assign]
    jobs.begin(p, Tab, plan)
    assert "sample" not in vars(p)


def test_a_copy_samples_itself() -> None:
    p: Any = Processing()
    begun(p)
    other = copy.copy(p)
    jobs.begin(other, Tab, plan)
    assert other.sample.__self__ is other
    assert other.get_conds_with_caching.__self__ is other
    assert other.parse_extra_network_prompts.__self__ is other


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (MotionError("too long"), 422, "too long"),
        (OSError("gone"), 500, "Motion cannot make this clip (gone): the WebUI's log says where it ended"),
        (ValueError(), 500, "Motion cannot make this clip: the WebUI's log says where it ended"),
        (FULL, 500, "there is not enough memory for this clip: close what else uses it, or choose smaller files"),
    ],
)
def test_what_cannot_be_planned_makes_no_stills(error: Exception, status: int, text: str) -> None:
    def fails(p: Any, tab: Tab) -> Job:
        raise error

    p = Processing()
    jobs.begin(p, lambda: Tab(enabled=True), fails)
    with pytest.raises(Refused) as refused:
        p.sample("x")
    assert (refused.value.status_code, refused.value.detail) == (status, text)
    assert refused.value.__cause__ is error
    assert p.batch_size == 1


def test_bad_settings_are_refused_and_the_next_job_is_clean() -> None:
    p = Processing()
    jobs.begin(p, lambda: Tab(frames=0), plan)
    for refused in (p.init, p.sample):  # the host's own complaint about the images would come first
        with pytest.raises(Refused, match="frames is 0"):
            refused([], [], [])
    assert Refused.sentence(TASK) == "frames is 0: give a whole number from 1 to 10000"
    jobs.begin(p, Tab, plan)
    p.init([], [], [])
    assert p.sample("x") == "sampled x"


def test_a_copy_is_a_job_of_its_own_and_a_repeated_beginning_is_none() -> None:
    p = Processing()
    job = begun(p)
    other = copy.copy(p)
    assert Job.of(other) is None
    jobs.begin(p, lambda: pytest.fail("planned again"), plan)
    assert Job.of(p) is job
    jobs.begin(other, Tab, plan)
    assert other.sample("x") == "sampled x"


def test_the_pictures_of_an_inner_pass_stay_pictures() -> None:
    """ADetailer marks them, others copy the job's p: what is made for a frame of a clip is no clip."""
    p = Processing()
    job = begun(p)
    marked, copied = Processing(), copy.copy(p)
    marked._ad_inner = True  # type: ignore[attr-defined]
    for inner in (marked, copied):
        jobs.begin(inner, lambda: Tab(enabled=True), plan)
        assert Job.of(inner) is None
        assert inner.sample("x") == "sampled x"
        assert not job.sampling.open
    assert Job.of(p) is job


def test_a_copy_of_a_job_that_is_over_is_a_job() -> None:
    p = Processing()
    job = begun(p)
    other = copy.copy(p)
    jobs.end(p, job)
    assert begun(other).sampling is not job.sampling


def name_seeds_of(p: Any, job: Job) -> Any:
    count = job.clips * job.frames
    p.all_seeds = [7 + n for n in range(count)]
    p.all_subseeds = [100 + n for n in range(count)]
    batches.name_seeds(p, job)
    return p


def test_seeds_in_a_clip_differ_and_infotext_names_the_clips() -> None:
    p = Processing()
    job = begun(p)
    name_seeds_of(p, job)
    assert p.all_seeds == [7, 8, 9, 10, 8, 9, 10, 11]
    assert p.extra_generation_params["Seed"] == [7] * 4 + [8] * 4
    json.dumps(p.extra_generation_params)  # as Classic answers with them


def test_seeds_by_frame_are_the_hosts_own() -> None:
    p = Processing()
    job = begun(p, seed_mode="frame")
    name_seeds_of(p, job)
    assert p.all_seeds == list(range(7, 15))
    assert "Seed" not in p.extra_generation_params


def test_listed_seeds_are_those_of_the_frames_and_a_further_clips_begin_one_later() -> None:
    p = Processing()
    job = begun(p, seeds="3, 90")
    name_seeds_of(p, job)
    assert p.all_seeds == [3, 90, 91, 92, 4, 91, 92, 93]


def test_variations_of_one_seed_keep_it() -> None:
    p = Processing()
    p.subseed_strength = 0.5
    job = begun(p)
    name_seeds_of(p, job)
    assert p.all_seeds == [7, 8, 9, 10] * 2
    assert p.all_subseeds == [100, 101, 102, 103, 101, 102, 103, 104]


def test_all_frames_of_a_clip_have_one_prompt() -> None:
    p: Any = Processing()
    job = begun(p)
    p.all_prompts = [f"wild {n}" for n in range(8)]
    p.all_negative_prompts = [f"not {n}" for n in range(8)]
    p.all_hr_prompts = None
    batches.one_prompt(p, job, 1)
    assert p.prompts == ["wild 4"] * 4
    assert p.negative_prompts == ["not 4"] * 4
    assert p.all_prompts == ["wild 0", "wild 1", "wild 2", "wild 3", *["wild 4"] * 4]


@pytest.mark.parametrize("each", [1, 3])
def test_clips_are_gathered_without_masks_and_in_the_order_of_play(each: int) -> None:
    job = begun(Processing(), frames=3, loop="ping-pong")
    pictures = [picture for n in range(6) for picture in (n, *["mask"] * (each - 1))]
    job.done = 2
    clips, others = gather(job, [*pictures, "map"], [f"text {n}" for n in range(7)], each)
    assert others == ["map"]
    assert [clip.pictures for clip in clips] == [[0, 1, 2, 1], [3, 4, 5, 4]]
    assert clips[1].texts[0] == "text 3"


def test_an_interrupted_job_has_the_clips_that_were_done() -> None:
    job = begun(Processing())
    assert gather(job, [], [], 1) == ([], [])
    job.done = 1
    assert len(gather(job, range(4), "abcd", 1)[0]) == 1


def test_a_rate_or_a_size_that_a_format_does_not_take_is_refused() -> None:
    """The size after hires fix."""
    p: Any = Processing()
    p.width, p.height = 512, 1024
    checks.check_output(checks.final_size(p), Tab(fps=60, formats=("mp4", "frames")))
    with pytest.raises(MotionError, match="gif plays 50 at most"):
        checks.check_output(checks.final_size(p), Tab(fps=60))
    p.enable_hr, p.hr_scale, p.hr_resize_x, p.hr_resize_y = True, 2.0, 0, 0
    checks.check_output(checks.final_size(p), Tab(formats=("webp",)))
    p.hr_resize_x = 16 * 512
    with pytest.raises(MotionError, match=r"8192x16384: .webp takes 16383 pixels"):
        checks.check_output(checks.final_size(p), Tab(formats=("webp",)))
