"""Prompt travel: what each frame is told, and the way between two texts."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import motion
from motion.errors import MotionError
from motion.fields.curve_text import read_curve
from motion.settings.choices import TRAVELS
from motion.settings.lora_tags import tag_texts
from motion.settings.prompt_keys import key_frames
from motion.settings.prompts import (
    INTERPOLATIONS,
    Mix,
    frame_loras,
    has_curves,
    linear,
    spherical,
    travel,
    with_tags_of,
)
from motion.weights.formats.lora import TRIGGER, Lora

SEASONS = "a forest,\n0: spring\n4-6: summer\n-1: winter\nbest quality"


def test_a_prompt_without_key_frames_is_told_to_all_frames_as_it_is() -> None:
    prompt = "a cat, 3: 4 ratio,\n(red:1.2)"
    assert key_frames(prompt, 5) == {}
    assert travel(prompt, 5) == [Mix(prompt, prompt)] * 5


def test_frames_between_key_frames_mix_their_texts() -> None:
    told = travel(SEASONS, 11)
    spring, summer, winter = (f"a forest, {season}, best quality" for season in ("spring", "summer", "winter"))
    assert told[0] == Mix(spring, spring)
    assert told[1] == Mix(spring, summer, 0.25)
    assert told[4:7] == [Mix(summer, summer)] * 3
    assert told[8] == Mix(summer, winter, 0.5)
    assert told[10] == Mix(winter, winter)


def test_beyond_the_outer_key_frames_their_texts_hold_but_a_loop_goes_on() -> None:
    prompt = "2: a\n6: b"
    assert travel(prompt, 8)[:3] == [Mix("a", "a")] * 3
    assert travel(prompt, 8)[6:] == [Mix("b", "b")] * 2
    loop = travel(prompt, 8, closed=True)
    assert [loop[7], loop[0], loop[1]] == [Mix("b", "a", 0.25), Mix("b", "a", 0.5), Mix("b", "a", 0.75)]


@given(st.dictionaries(st.integers(0, 20), st.sampled_from("abc"), min_size=1), st.integers(21, 40), st.booleans())
def test_key_frames_have_their_own_text_and_weights_are_between(
    keys: dict[int, str], frames: int, closed: bool
) -> None:
    told = travel("\n".join(f"{frame}: {text}" for frame, text in keys.items()), frames, closed)
    assert len(told) == frames
    assert all(told[frame] == Mix(text, text) for frame, text in keys.items())
    assert all(0 <= mix.weight < 1 and {mix.first, mix.second} <= set(keys.values()) for mix in told)


def test_a_word_whose_emphasis_is_a_curve_is_told_each_frame_at_its_own() -> None:
    told = travel("a ((cat) in rain:0: 1, -1: 1.4), (red:1.2)", 5, drawn=6)
    texts = [f"a ((cat) in rain:{weight}), (red:1.2)" for weight in ("1", "1.1", "1.2", "1.3", "1.4", "1.4")]
    assert told == [Mix(text, text) for text in texts]
    both = travel("(sun:0-1: 1, 4: 0.5)\n0: day\n4: night", 5)
    assert both[2] == Mix("(sun:0.83), day", "(sun:0.83), night", 0.5)
    with pytest.raises(MotionError, match="the prompt's emphasis 0: 1, 9: 2: 9 is not in a clip of 5 frames"):
        travel("(sun:0: 1, 9: 2)", 5)


@given(st.text(st.sampled_from("(a:0-1, 2.)@\n"), max_size=24))
def test_any_emphasis_is_a_curve_or_left_alone(text: str) -> None:
    try:
        told = travel(text, 5)
    except MotionError:
        return
    if not has_curves(text) and not key_frames(text, 5):
        assert told == [Mix(text, text)] * 5
    assert not any(has_curves(part) for mix in told for part in mix[:2])


def weights(prompt: str, frames: int = 5, closed: bool = False) -> dict[str, list[float]]:
    return {name: read_curve(weight).at(frames) for name, weight in frame_loras(prompt, frames, closed).items()}


def test_loras_count_as_the_texts_that_name_them() -> None:
    lines = "<lora:all:0.5>\n0: cat <lora:ink:1:0.8>\n2: dog <lora:ink:0.2><lora:sea>\n4: bird\nsharp <lyco:same:2>"
    assert weights(lines) == {"ink": [0.8, 0.5, 0.2, 0.1, 0], "sea": [0, 0.5, 1, 0.5, 0]}
    assert weights("1: a <lora:ink>\n3: b", 4, closed=True) == {"ink": [0.5, 1, 0.5, 0]}
    assert weights("<lora:ink:0.75>\n0: a\n-1: b <lora:ink:0.25>") == {"ink": [0.75, 0.625, 0.5, 0.375, 0.25]}
    assert frame_loras("a cat <lora:ink:0.3><lora:ink:0.4:lbw=MIDD>", 5) == {}, "the host's affair"


def test_a_lora_may_have_a_curve_in_any_line() -> None:
    assert weights("a cat <lora:ink:0: 1, -1: 0>") == {"ink": [1, 0.75, 0.5, 0.25, 0]}
    assert weights("0: a <lora:ink:0: 1, 4: 2>\n4: b <lora:ink:0: 0, 4: 4>") == {"ink": [1, 1.1875, 1.75, 2.6875, 4]}
    told = travel("a cat <lora:ink:0: 1, -1: 0><lora:sea:0:1>", 5)
    assert [tag_texts(mix.first)["ink"] for mix in told] == [f"ink:{at}" for at in ("1", "0.75", "0.5", "0.25", "0")]
    assert {tag_texts(mix.first)["sea"] for mix in told} == {"sea:0:1"}


def test_a_lora_that_counts_the_same_in_all_frames_is_a_number() -> None:
    assert frame_loras("a <lora:ink:0: 0.7, -1: 0.7>", 5) == {"ink": 0.7}
    assert frame_loras("0: a <lora:ink:1>\n-1: b <lora:ink>", 5) == {"ink": 1}
    assert isinstance(frame_loras("0: a <lora:ink:1:0.5>\n-1: b <lora:ink:0.5>", 5)["ink"], str), "not in the text"


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("0: a <lora:ink:1:lbw=MIDD>\n-1: b", "ink with lbw"),
        ("a <lora:ink:0: 1, 9: 2>", "LoRA ink in the prompt: 9 is not in a clip of 5"),
        ("0: a\n-1: b <lora:ink:99>", "weight is 99"),
    ],
)
def test_weights_that_cannot_be_followed_are_refused(prompt: str, said: str) -> None:
    with pytest.raises(MotionError, match=said):
        frame_loras(prompt, 5)


@given(st.text(st.sampled_from("<lora:x> 0-1,@\n"), max_size=30))
def test_any_prompt_has_weights_for_all_frames_or_is_refused(text: str) -> None:
    try:
        found = frame_loras(text, 5)
    except MotionError:
        return
    assert all(len(read_curve(weight).at(5)) == 5 for weight in found.values())


def test_negative_prompts_are_told_with_the_loras_of_each_frame() -> None:
    prompt = travel("0: a <lora:x:1>\n2: b\n4: c", 5)
    told = with_tags_of(prompt, travel("dark", 5), "|")
    tagged = "dark|<lora:x:1>"
    assert told[:3] == [Mix(tagged, tagged), Mix(tagged, "dark|", 0.5), Mix("dark", "dark")]
    assert told[3:] == [Mix("dark", "dark")] * 2
    own = travel("0: dark\n2: light", 5)
    assert with_tags_of(prompt, own)[:2] == [Mix("dark<lora:x:1>", "dark<lora:x:1>"), own[1]]
    assert with_tags_of(travel("0: a <lora:x:1>\n4: b <lora:x:1>", 5), travel("", 5))[1] == Mix(*["<lora:x:1>"] * 2)


def test_interpolations_are_exact() -> None:
    assert INTERPOLATIONS.keys() == TRAVELS.keys()
    first, second = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert torch.equal(linear(first, second, 0.25), torch.tensor([[0.75, 0.25]]))
    third = torch.tensor([[math.cos(math.pi / 6), math.sin(math.pi / 6)]])
    torch.testing.assert_close(spherical(first, second, 1 / 3), third)
    nearly = first + 1e-5 * second
    torch.testing.assert_close(spherical(first, nearly, 0.5), linear(first, nearly, 0.5))
    assert spherical(first, -first, 0.5).isfinite().all()
    for interpolate in INTERPOLATIONS.values():
        draw = torch.randn(2, 7, 8)
        assert torch.equal(interpolate(*draw, 0.0), draw[0])
        assert torch.equal(interpolate(*draw, 1.0), draw[1])


def test_trigger_words_are_added_once() -> None:
    first, second, none = (Lora(word, "motion", {}, {TRIGGER: word}) for word in ("slow pan", "zoom", ""))
    assert motion.lora.add_trigger_words("a cat", [(first, 1.0), (second, 0.5), (first, 1.0), (none, 1.0)], 4) == (
        "a cat, slow pan, zoom"
    )
    assert motion.lora.add_trigger_words("A Slow Pan", [(first, 1.0), (second, 0)], 4) == "A Slow Pan"
    assert motion.lora.add_trigger_words("", [(first, 1.0)], 4) == "slow pan"
    travelling = motion.lora.add_trigger_words("0: a cat\n-1: a dog", [(first, 1.0), (second, 1.0)], 4)
    assert key_frames(travelling, 4) == {0: "a cat, slow pan, zoom", 3: "a dog, slow pan, zoom"}
