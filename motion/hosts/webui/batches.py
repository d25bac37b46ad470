"""What the host is told of the frames of each batch: their seeds and their prompts."""

from __future__ import annotations

from typing import Any

from motion.hosts.webui.job import Job


def name_seeds(p: Any, job: Job) -> None:
    """Give every frame its seed: seed + 1, + 2 ... in a clip, and each further clip begins one later.

    In seed mode "clip" only the first counts, but samplers that draw noise by the frames' seeds need different ones;
    infotext then names the clip's seed in all its frames. In mode "frame" the host's numbering stands. Listed seeds do.
    """
    if job.tab.seeds:
        p.all_seeds = [seed + clip for clip in range(job.batches) for seed in job.tab.frame_seeds(0, job.frames)]
    if job.tab.has_seeds or isinstance(job.own["seed"], list):
        return
    for name, fixed in (("all_seeds", p.subseed_strength != 0), ("all_subseeds", False)):
        first = getattr(p, name)[0]
        each = [first + (0 if fixed else clip) + frame for clip in range(job.batches) for frame in range(job.frames)]
        setattr(p, name, each)
    # As a list: Classic's answer is no JSON where an entry is a function.
    p.extra_generation_params["Seed"] = [seed for seed in p.all_seeds[:: job.frames] for _ in range(job.frames)]


def one_prompt(p: Any, job: Job, batch: int) -> None:
    """All frames of a clip have its first frame's prompts, whatever other extensions drew for the others."""
    frames = slice(batch * job.frames, (batch + 1) * job.frames)
    for name in ("all_prompts", "all_negative_prompts", "all_hr_prompts", "all_hr_negative_prompts"):
        texts = getattr(p, name, None)
        if texts:
            texts[frames] = [texts[frames.start]] * len(texts[frames])
    p.prompts, p.negative_prompts = p.all_prompts[frames], p.all_negative_prompts[frames]
