"""What is told of a job beside its clip."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from motion.hosts.webui.checks import few_steps_note

LIGHTNING, LCM, HYPER = "animatediff_lightning_4step_comfyui", "AnimateLCM_sd15_t2v", "Hyper-SD15-8steps-lora"
SGM = {"scheduler": "SGM Uniform"}


@pytest.mark.parametrize(
    ("files", "job", "note"),
    [
        (["mm_sd_v15_v2"], {"sampler_name": "DPM++ 2M", "steps": 20}, ""),
        ([LIGHTNING], {"sampler_name": "Euler", "steps": 4, **SGM}, ""),
        ([LIGHTNING], {"sampler_name": "Euler", "steps": 4, "scheduler": "sgm_uniform"}, ""),
        ([LIGHTNING], {"sampler_name": "Euler", "steps": 4, "scheduler": "Simple"}, ""),
        ([LIGHTNING], {"sampler_name": "Euler", "steps": 4}, ""),
        ([LIGHTNING], {"sampler_name": "Euler", "steps": 4, "scheduler": None}, "schedule type Automatic will not do"),
        ([LIGHTNING], {"sampler_name": "DPM++ 2M", "steps": 20, **SGM}, "sampler DPM++ 2M, steps 20 will not do"),
        ([HYPER], {"sampler_name": "DDIM", "steps": 8, **SGM}, "sampler DDIM will not do"),
        ([HYPER], {"sampler_name": "Euler", "steps": 8, **SGM}, ""),
        ([LCM], {"sampler_name": "LCM", "steps": 8}, "goes with the LoRA AnimateLCM_sd15_t2v_lora"),
        ([LCM, "AnimateLCM_sd15_t2v_lora"], {"sampler_name": "LCM", "steps": 8, "scheduler": "Automatic"}, ""),
    ],
)
def test_few_step_files_say_what_contradicts_them(files: list[str], job: dict[str, object], note: str) -> None:
    said = few_steps_note(SimpleNamespace(**job), files, files[1:])
    assert note in said and bool(said) == bool(note)
