"""Emphasis and BREAK by the WebUIs' grammar, and what of it the standalone host refuses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from motion.errors import MotionError
from motion.hosts.standalone.parts import Parts
from motion.hosts.standalone.text.emphasis import emphasise, literal, read_emphasis
from motion.hosts.standalone.text.prompts import Condition, encode
from motion.hosts.standalone.text.tokens import CHUNK, chunks, clip_tokenizer
from tests.support.small import far

GRAMMAR = {
    "a cat": [[("a cat", 1)]],
    "": [[]],
    "a (red) cat": [[("a ", 1), ("red", 1.1), (" cat", 1)]],
    "a [red] cat": [[("a ", 1), ("red", 1 / 1.1), (" cat", 1)]],
    "a (red:1.5) cat": [[("a ", 1), ("red", 1.5), (" cat", 1)]],
    "((a) (b: .5 ):2)": [[("a", 2.2), (" ", 2), ("b", 1)]],
    "([a])": [[("a", 1)]],
    "(a)(b)": [[("ab", 1.1)]],
    "(a:-1)": [[("a", -1)]],
    "(open [and]": [[("open ", 1.1), ("and", 1)]],
    "close) it]": [[("close) it]", 1)]],
    r"\(text\) \[too\] \\ \n": [[(r"(text) [too] \ n", 1)]],
    "at 12:30 (a:b)": [[("at 12:30 ", 1), ("a:b", 1.1)]],
    "a BREAK  b": [[("a", 1)], [("b", 1)]],
    "(a BREAK b:1.2) BREAKING": [[("a", 1.2)], [("b", 1.2), (" BREAKING", 1)]],
    "BREAK a BREAK": [[("", 1)], [("a", 1)], [("", 1)]],
}


@pytest.mark.parametrize("prompt", GRAMMAR)
def test_the_grammar_is_the_webuis(prompt: str) -> None:
    found = read_emphasis(prompt)
    assert [[span.text for span in part] for part in found] == [[text for text, _ in part] for part in GRAMMAR[prompt]]
    weights = [[span.weight for span in part] for part in found]
    assert weights == [pytest.approx([weight for _, weight in part]) for part in GRAMMAR[prompt]]


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a [cat:dog:0.5]", r"has \[cat:dog:0.5\], which changes from step to step"),
        ("a [cat:8]", r"\[cat:8\]"),
        ("[a:[b:c: 5 ]:8]", r"\[b:c: 5 \]"),
        ("a [(cat:1.2)|dog]", r"\[\(cat:1.2\)\|dog\]"),
        ("a embedding:bad-hands, cat", "embedding:bad-hands: write the embedding's name alone"),
    ],
)
def test_what_only_a_webui_draws_is_refused(prompt: str, words: str) -> None:
    with pytest.raises(MotionError, match=words):
        read_emphasis(prompt)
    assert read_emphasis(r"a \[cat:8\], ANDY, [a:b], a|b")


@given(st.lists(st.sampled_from([*"()[]:\\|., ", "cat", "1.3", ":0.5)", " BREAK ", "AND", "é"])).map("".join))
def test_any_prompt_is_read_or_refused(prompt: str) -> None:
    try:
        parts = read_emphasis(prompt)
    except MotionError:
        return
    assert all(span.weight == span.weight for part in parts for span in part)
    if not set(prompt) & set("()[]\\") and "BREAK" not in prompt:
        assert parts == (literal(prompt) if prompt else [[]])


def test_a_break_begins_a_row_and_weights_follow_their_tokens() -> None:
    tokenizer = clip_tokenizer()
    (cat,) = tokenizer("cat", add_special_tokens=False).input_ids
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    prompts = [read_emphasis("cat (cat cat:1.5) BREAK cat"), literal("cat"), read_emphasis("cat " * 80 + "BREAK")]
    first, second, long = chunks(tokenizer, prompts, 0)
    assert [row.ids[:5] for row in first] == [[start, cat, cat, cat, end], [start, cat, end, 0, 0]]
    assert first[0].weights == [1, 1, 1.5, 1.5, *[1] * 73] and set(first[1].weights) == {1}
    assert [row.ids[:3] for row in second] == [[start, cat, end], [start, end, 0]]
    assert [row.ids.count(cat) for row in long] == [CHUNK, 5]
    assert all(len(row.ids) == len(row.weights) == CHUNK + 2 for rows in (first, second, long) for row in rows)


def test_rows_keep_their_mean_and_plain_ones_their_numbers() -> None:
    torch.manual_seed(0)
    vectors, weights = torch.randn(3, 5, 4) + 1, torch.ones(3, 5)
    assert emphasise(vectors, weights) is vectors
    weights[1, 2:] = torch.tensor([1.5, 0.5, -1])
    found = emphasise(vectors, weights)
    assert torch.equal(found[[0, 2]], vectors[[0, 2]])
    assert far(found[1].mean(), vectors[1].mean()) <= 1e-5
    expected = vectors[1] * weights[1][:, None]
    assert far(found[1], expected * (vectors[1].mean() / expected.mean())) <= 1e-6


@pytest.mark.parametrize("base", ["sd15", "sdxl"])
def test_each_encoder_is_emphasised_by_itself_and_the_pooled_text_is_not(parts: dict[str, Parts], base: str) -> None:
    encoders = parts[base].encoders

    def encoded(text: str) -> Condition:
        with torch.no_grad():
            return encode(encoders, [text], grammar=read_emphasis)

    plain, strong, one = encoded("a red cat"), encoded("a (red:1.5) cat"), encoded("a (red:1) cat")
    assert torch.equal(one.context, plain.context) and not torch.equal(strong.context, plain.context)
    weights = torch.ones(1, 77)
    weights[0, 2] = 1.5
    widths = [encoder.model.config.hidden_size for encoder in encoders]
    expected = torch.cat([emphasise(part, weights) for part in plain.context.split(widths, dim=-1)], dim=-1)
    assert far(strong.context, expected) <= 1e-6
    assert base == "sd15" or torch.equal(strong.pooled, plain.pooled)  # type: ignore[arg-type]
    broken = encoded("a red cat BREAK a dog")
    assert torch.equal(broken.context[:, :77], plain.context)
    assert torch.equal(broken.context[:, 77:], encoded("a dog").context)
