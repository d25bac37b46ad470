"""What is told of a job beside its clip."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from motion.hosts.webui.checks import few_steps_note
from motion.settings.tab import Tab

LIGHTNING, LCM = "animatediff_lightning_4step_comfyui", "AnimateLCM_sd15_t2v"


@pytest.mark.parametrize(
    ("module", "prompt", "sampler", "steps", "note"),
    [
        ("mm_sd_v15_v2", "a cat", "DPM++ 2M", 20, ""),
        (LIGHTNING, "a cat", "Euler", 4, ""),
        (LIGHTNING, "a cat", "DPM++ 2M", 20, "sampler dpmpp_2m, steps 20 will not do"),
        (LIGHTNING, "a cat", "Restart", 4, "sampler Restart will not do"),
        (LCM, "a cat", "LCM", 8, "goes with the LoRA AnimateLCM_sd15_t2v_lora"),
        (LCM, "a cat <lora:AnimateLCM_sd15_t2v_lora:0.8>", "LCM", 8, ""),
    ],
)
def test_few_step_files_say_what_contradicts_them(
    module: str, prompt: str, sampler: str, steps: int, note: str
) -> None:
    p = SimpleNamespace(prompt=prompt, sampler_name=sampler, steps=steps)
    said = few_steps_note(p, Tab(module=module))
    assert note in said and bool(said) == bool(note)
