"""What a job reads in its prompts: key frames and LoRAs, while it lasts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from motion.errors import MotionError
from motion.hosts.webui import checks
from motion.hosts.webui import job as jobs
from motion.hosts.webui.job import Job, Refused
from motion.settings.prompt_keys import key_frames
from motion.settings.tab import Tab

from .test_job import FRAMES, Processing, begun, plan


def conditions(p: Any, prompt: str) -> Any:
    """Of each frame, where the host makes a list of its texts."""
    return p.get_conds_with_caching(lambda prompts: [[text] for text in prompts], [prompt] * FRAMES, 1, [], {})


def test_prompts_are_the_hosts_affair_but_for_key_frames() -> None:
    p = Processing()
    job = begun(p)
    assert conditions(p, "a cat") == [["a cat"]] * FRAMES
    with pytest.raises(Refused, match="key frame 4") as refused:
        conditions(p, "0: a cat\n4: a dog")
    assert refused.value.status_code == 422
    assert Job.of(p) is None
    assert conditions(p, "0: a cat\n4: a dog") == [["0: a cat\n4: a dog"]] * FRAMES
    jobs.begin(p, Tab, plan)
    assert "get_conds_with_caching" not in vars(p)
    q = Processing()
    job = begun(q)
    jobs.end(q, job)
    assert not {"get_conds_with_caching", "parse_extra_network_prompts"} & vars(q).keys()


@pytest.mark.parametrize(("prompt", "weights"), [("0: a\n-1: b", ["0.5"]), ("a", ["1", "0.5"])])
def test_lines_that_name_the_same_lora_name_it_once(prompt: str, weights: list[str]) -> None:
    p: Any = Processing()
    begun(p)
    p.prompts = p.hr_prompts = [prompt] * FRAMES
    p.extra_network_data = {"lora": [SimpleNamespace(items=["pan", weight]) for weight in ("1", "0.5")]}
    p.extra_network_data["lora"].append(SimpleNamespace(items=["zoom"]))
    p.hr_extra_network_data = None
    p.parse_extra_network_prompts()
    assert [named.items for named in p.extra_network_data["lora"]] == [
        *(["pan", weight] for weight in weights),
        ["zoom"],
    ]


@pytest.mark.parametrize("name", ["prompt", "negative_prompt", "hr_prompt", "hr_negative_prompt"])
def test_key_frames_are_checked_wherever_they_are(name: str) -> None:
    p: Any = Processing()
    for text in ("0: a\n-1: b", ["a", "0: b"], None):
        setattr(p, name, text)
        checks.check_prompts(p, Tab(frames=FRAMES))
    for text in ("0: a\n4: b", ["a", "0: a\n-5: b"]):
        setattr(p, name, text)
        with pytest.raises(MotionError, match="the prompt has a key frame"):
            checks.check_prompts(p, Tab(frames=FRAMES))


class Styles:
    """Two of them: one behind a prompt, one around it; the negative prompt has the first only."""

    def apply_styles_to_prompt(self, prompt: str, styles: list[str]) -> str:
        return f"photo of {prompt}, crisp"

    def apply_negative_styles_to_prompt(self, prompt: str, styles: list[str]) -> str:
        return f"{prompt}, blurry"


def test_styles_stand_around_all_key_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motion.hosts.webui.prompt.host_module", lambda name: SimpleNamespace(prompt_styles=Styles()))
    p: Any = Processing()
    p.styles, p.prompt, p.hr_prompt, p.hr_negative_prompt = ["a", "b"], "0: a cat\n-1: a dog", "a horse", ""
    before = dict(vars(p))
    job = begun(p)
    assert key_frames(p.prompt, FRAMES) == {0: "photo of, a cat, crisp", 3: "photo of, a dog, crisp"}
    assert (p.negative_prompt, p.hr_prompt, p.hr_negative_prompt) == ("blurry", "photo of a horse, crisp", "")
    assert p.styles == []
    jobs.end(p, job)
    assert {**vars(p), "extra_generation_params": {}} == {**before, "extra_generation_params": {}}


def test_styles_of_other_prompts_are_the_hosts_affair() -> None:
    p = Processing()
    p.styles = ["a"]
    begun(p)
    assert (p.prompt, p.styles) == ("a cat", ["a"])
