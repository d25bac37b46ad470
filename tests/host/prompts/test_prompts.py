"""However the host cuts a step's prompts into batches, the frames of a clip stay one clip.

The host may send the prompt's rows and the negative prompt's to the UNet together or apart, leave the latter out, and
put several rows for one frame side by side. None of it may show. What must then be equal follows from how guidance
adds up: at CFG 1 the negative prompt cancels, at CFG 0 the prompt does; half of a prompt AND half of it again are the
prompt; and a sum has no order (but where the host leaves guidance out). Different batches differ in rounding only.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from ..support.webui import FRAMES, QUICK, Frames, Webui, apart

ROUNDING = 0.5
"""Mean difference of 255 that is not one of content."""
PROMPT = QUICK["prompt"]
BLUE = "a blue square moving left on a black background"
LENGTHS = (10, 76, 151)
"""Tokens: one, two and three of the text encoder's windows of 75."""
TEMPORAL = "motion.models.motion.temporal.TemporalTransformer.forward"
APART: dict[str, Any] = {"batch_cond_uncond": False}
PADDED: dict[str, Any] = {"pad_cond_uncond": True}
GUIDED: dict[str, dict[str, Any]] = {
    "together": {},
    "apart": APART,
    "padded": PADDED,
    "padded the old way": {"pad_cond_uncond_v0": True},
}
SPLITS: dict[str, dict[str, Any]] = {
    **GUIDED,
    "no early guidance": {"skip_early_cond": 0.5},
    "no guidance below a sigma": {"s_min_uncond": 4.0, "s_min_uncond_all": True},
    "apart and no guidance below a sigma": {**APART, "s_min_uncond": 4.0},
}


def long(text: str, tokens: int) -> str:
    """The text, all of its words one token each, made `tokens` long."""
    return text + " a" * (tokens - len(text.split()))


def clip(webui: Webui, settings: dict[str, Any] | None = None, **request: Any) -> Frames:
    """A clip under the host's `settings`, in which temporal layers never saw but whole clips."""
    with webui.calls(TEMPORAL) as calls:
        frames = webui.clip(override_settings=settings or {}, sampler_name="Euler", **request).frames
    assert calls and {rows[1][0] % FRAMES for rows in calls} == {0}
    return frames


def half_and_half(prompt: str) -> str:
    return f"{prompt} :0.5 AND {prompt} :0.5"


def test_the_host_does_leave_guidance_out(webui: Webui) -> None:
    for settings, said in (({"skip_early_cond": 0.5}, "Skip Early CFG"), ({"s_min_uncond": 4.0}, "NGMS")):
        result = webui.clip(override_settings=settings, sampler_name="Euler")
        assert f"{said}: " in result.info["infotexts"][0]


def test_cfg_1_needs_no_negative_prompt(webui: Webui) -> None:
    wanted = clip(webui, cfg_scale=1)
    assert apart(clip(webui, cfg_scale=7.5), wanted) > ROUNDING
    for tokens in LENGTHS:
        assert apart(clip(webui, cfg_scale=1, negative_prompt=long(BLUE, tokens)), wanted) < ROUNDING


def test_cfg_0_needs_no_prompt(webui: Webui) -> None:
    wanted = clip(webui, cfg_scale=0, prompt="", negative_prompt=BLUE)
    for tokens in LENGTHS:
        assert apart(clip(webui, cfg_scale=0, prompt=long(PROMPT, tokens), negative_prompt=BLUE), wanted) < ROUNDING


@pytest.mark.parametrize("tokens", LENGTHS)
@pytest.mark.parametrize("negative", ["", *(long(BLUE, tokens) for tokens in LENGTHS)], ids=["empty", *LENGTHS])
def test_prompts_of_any_length_in_one_batch_or_two(webui: Webui, tokens: int, negative: str) -> None:
    request = {"prompt": long(PROMPT, tokens), "negative_prompt": negative}
    assert apart(clip(webui, **request), clip(webui, APART, **request)) < ROUNDING


@pytest.mark.parametrize("settings", SPLITS.values(), ids=SPLITS)
def test_half_a_prompt_and_half_again_is_the_prompt(webui: Webui, settings: dict[str, Any]) -> None:
    wanted = clip(webui, settings)
    assert apart(clip(webui, settings, prompt=half_and_half(PROMPT)), wanted) < ROUNDING


@pytest.mark.parametrize("settings", GUIDED.values(), ids=GUIDED)
def test_the_order_of_and_does_not_matter(webui: Webui, settings: dict[str, Any]) -> None:
    for tokens in (10, 76):
        for negative in ("", long(BLUE, 76)):
            parts = (PROMPT, long(BLUE, tokens))
            one = clip(webui, settings, prompt=" AND ".join(parts), negative_prompt=negative)
            other = clip(webui, settings, prompt=" AND ".join(parts[::-1]), negative_prompt=negative)
            assert apart(one, other) < ROUNDING, (tokens, negative)


def test_half_and_half_beside_a_long_negative_prompt(webui: Webui) -> None:
    """Prompts of several parts are padded, whatever the setting: else the host would cut between frames."""
    negative = long(BLUE, 76)
    wanted = clip(webui, PADDED, negative_prompt=negative)
    for settings in ({}, APART):
        halves = clip(webui, settings, prompt=half_and_half(PROMPT), negative_prompt=negative)
        assert apart(halves, wanted) < ROUNDING


def test_three_prompts_in_thirds(webui: Webui) -> None:
    thirds = " AND ".join([f"{PROMPT} :{1 / 3}"] * 3)
    assert apart(clip(webui, prompt=thirds), clip(webui)) < ROUNDING


@pytest.mark.parametrize("settings", SPLITS.values(), ids=SPLITS)
def test_at_cfg_1_guidance_can_be_left_out(webui: Webui, settings: dict[str, Any]) -> None:
    assert apart(clip(webui, settings, cfg_scale=1), clip(webui, cfg_scale=1)) < ROUNDING


def test_prompt_editing(webui: Webui) -> None:
    first, second = (PROMPT.replace("red", colour) for colour in ("red", "blue"))
    settings = {"steps": 6, "cfg_scale": 30}  # a random model hardly hears one word
    edited = clip(webui, prompt=PROMPT.replace("red", "[red:blue:0.2]"), **settings)
    for prompt in (first, second):
        assert apart(edited, clip(webui, prompt=prompt, **settings)) > ROUNDING


def test_prompt_editing_that_changes_the_length(webui: Webui) -> None:
    prompt = f"{PROMPT} [:{long('', 70)}:0.5]"
    for settings in ({}, APART):
        assert len(clip(webui, settings, prompt=prompt, steps=6)) == FRAMES


def test_alternating_words(webui: Webui) -> None:
    assert len(clip(webui, prompt=PROMPT.replace("red", "[red|blue]"), steps=6)) == FRAMES


def test_neighbours_in_the_middle_are_no_further_apart_than_others(webui: Webui) -> None:
    """Where a clip is cut in two, the step from frame 8 to frame 9 stands out."""
    request = {"steps": 12, "negative_prompt": long("grey", 76)}
    for settings in ({}, APART):
        frames = clip(webui, settings, **request)
        steps = [apart(*pair) for pair in pairwise(frames)]
        assert steps[FRAMES // 2 - 1] <= 1.5 * max(step for at, step in enumerate(steps) if at != FRAMES // 2 - 1)
