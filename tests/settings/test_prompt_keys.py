"""Which lines of a prompt are key frames: one rule, and every spelling of the same lines."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motion.errors import MotionError
from motion.settings.prompt_keys import key_frames, travels

FRAMES = 16
Keys = dict[int, str]
WIDE = {ord(digit): chr(ord(digit) + 0xFEE0) for digit in "0123456789"}
TEXTS = ["a cat", 'a "dog"', r"a \(bird\)", "snow, 4:3", "{a|b} {c}"]
KEYS = st.dictionaries(st.integers(0, FRAMES - 1), st.sampled_from(TEXTS), min_size=1)

SPELLINGS: dict[str, Callable[[Keys], str]] = {
    "plain": lambda keys: "\n".join(f"{frame}: {text}" for frame, text in keys.items()),
    "from the end": lambda keys: "\n".join(f"{frame - FRAMES}: {text}" for frame, text in keys.items()),
    "pasted": lambda keys: (
        "\ufeff" + "\n".join(f"\u200b {frame} \u200b\uff1a\u3000{text}," for frame, text in keys.items())
    ),
    "decimal": lambda keys: "\r\n".join(f"+{frame}.0: {text}" for frame, text in keys.items()),
    "full width": lambda keys: "\n".join(f"{str(frame).translate(WIDE)}: {text}" for frame, text in keys.items()),
    "minus of a text processor": lambda keys: "\n".join(
        f"\u2212{FRAMES - frame}\u2013\u2212{FRAMES - frame}: {text}" for frame, text in keys.items()
    ),
    "JSON": lambda keys: json.dumps(keys, indent=1),
    "JSON in one line": json.dumps,
    "JSON in a document": lambda keys: f'"prompt_map": {json.dumps(keys, indent=4)},',
    "FizzNodes": lambda keys: ",\n".join(f'"{frame}" :{json.dumps(text)}' for frame, text in keys.items()),
    "FizzNodes in one line": lambda keys: ", ".join(f'"{frame}" :{json.dumps(text)}' for frame, text in keys.items()),
    "ComfyUI-AnimateDiff-Evolved": lambda keys: "\n".join(f"{n} = {json.dumps(text)}," for n, text in keys.items()),
    "Python": lambda keys: "{" + "".join(f"\n    {frame}: {text!r}," for frame, text in keys.items()) + "\n}",
    "unquoted": lambda keys: "\n".join(f'"{frame}": {text}' for frame, text in keys.items()),
}
MAPS = {"JSON", "JSON in one line", "JSON in a document", "FizzNodes", "FizzNodes in one line", "unquoted"}


@pytest.mark.parametrize("spelling", SPELLINGS)
@settings(max_examples=25)
@given(keys=KEYS)
def test_every_spelling_of_the_same_keys_is_the_same(spelling: str, keys: Keys) -> None:
    prompt = SPELLINGS[spelling](keys)
    assert travels(prompt, FRAMES)
    assert key_frames(prompt, FRAMES) == keys
    if spelling in MAPS:
        return
    around = key_frames(f"a forest,\n{prompt}\nbest quality", FRAMES)
    assert around == {frame: f"a forest, {text}, best quality" for frame, text in keys.items()}


def test_lines_between_keys_belong_to_the_one_above() -> None:
    prompt = "a forest,\n0: spring,\nwith many flowers\n\n4-6: summer\n12:30 on a clock\n-1: winter\nbest quality"
    assert key_frames(prompt, 11) == {
        0: "a forest, spring, with many flowers, best quality",
        4: "a forest, summer, 12:30 on a clock, best quality",
        6: "a forest, summer, 12:30 on a clock, best quality",
        10: "a forest, winter, best quality",
    }


@given(
    head=st.lists(st.sampled_from(["a", "16:9 b", "c: d"])),
    told=st.dictionaries(st.integers(0, FRAMES - 1), st.lists(st.sampled_from(["e", "12:30 f", "g"])), min_size=1),
    tail=st.sampled_from([[], ["h"]]),
)
def test_no_line_is_told_to_nobody(head: list[str], told: dict[int, list[str]], tail: list[str]) -> None:
    last = list(told)[-1]
    lines = head + [line for frame, below in told.items() for line in (f"{frame}: key {frame}", *below)] + tail
    keys = key_frames("\n".join(lines), FRAMES)
    everywhere = told[last] + tail
    for frame, below in told.items():
        own = [] if frame == last else below
        assert keys[frame] == ", ".join([*head, f"key {frame}", *own, *everywhere])


@pytest.mark.parametrize(
    "prompt",
    ["a cat", "", "4:3 photo of a cat", "16:9 widescreen", "12:30 on a clock", "1980: a street in London", "8.5: a",
     "1980-1990: a street", '"1984": a book\nby a window',
     '"1984": a book', "16: a", "-17: a", "99999999999999999999: a", "a 3: 4 b",
     "{a|b}\n(c:1.2)"],
)  # fmt: skip
def test_text_is_text(prompt: str) -> None:
    assert not travels(prompt, FRAMES)
    assert key_frames(prompt, FRAMES) == {}


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("0: a\n16: b", "key frame 16: .* 0 to 15"),
        ("0: a\n-17: b", "key frame -17"),
        ("0: a\n8.5: b", "key frame 8.5"),
        ("0: a\n" + "9" * 5000 + ": b", "key frame 9{40}:"),
        ("12-20: a", "key frame 20"),
        ("5-3: a", "5 to 3 go backwards"),
        ("0: a\n0: b", "frame 0 two texts, 'a' and 'b'"),
        ("0: a\n-16: b", "frame 0 two texts"),
        ("0-8: a\n4-8: b", "frame 8 two texts"),
        ('"0": "a\n"8": "b"', "in a map"),
        ('"0": "a"\n"8": "b" c', "in a map"),
        ('"head_prompt": "a",\n"0": "b"', "in a map"),
        ('{"head_prompt": "a", "0": "b"}', "in a map"),
        ('a cat,\n"0": "b"', "has a cat, in a map"),
        ('"0": "b"\na cat', "has a cat in a map"),
        ('a cat, "0": "b", "8": "c"', "in a map"),
    ],
)
def test_what_cannot_be_is_named(prompt: str, words: str) -> None:
    with pytest.raises(MotionError, match=words):
        key_frames(prompt, FRAMES)


def test_the_end_of_a_range_may_begin_the_next() -> None:
    expected = {0: "a", 8: "b", 15: "b"}
    assert key_frames("0-8: a\n8-15: b", FRAMES) == key_frames("8-15: b\n0-8: a", FRAMES) == expected
    assert key_frames("0: a\n-16: a", FRAMES) == {0: "a"}


@given(
    st.lists(st.sampled_from([*"0189-+.:=,{}\"'\\ \n\u200b\uff1a", "8: a", '"0": "', "-1", "text"]), max_size=12).map(
        "".join
    ),
    st.integers(1, 20),
)
def test_any_text_travels_or_is_text_or_is_refused(prompt: str, frames: int) -> None:
    try:
        keys = key_frames(prompt, frames)
    except MotionError as error:
        assert "\n" not in str(error)
        return
    assert bool(keys) == travels(prompt, frames)
    assert all(0 <= frame < frames for frame in keys)
