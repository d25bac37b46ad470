"""Textual inversion in the standalone host: a word of a prompt is its vectors, and nothing is left of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from motion.errors import MotionError
from motion.hosts.standalone.parts import Parts
from motion.hosts.standalone.text.emphasis import read_emphasis
from motion.hosts.standalone.text.learned_words import learned_words
from motion.hosts.standalone.text.prompts import encode
from motion.hosts.standalone.text.tokens import CHUNK, chunks, clip_tokenizer
from motion.weights.formats.embeddings import Embedding


def table(parts: Parts, index: int = 0) -> Tensor:
    weights: Tensor = parts.encoders[index].model.get_input_embeddings().weight
    return weights


def of_words(parts: Parts, name: str, text: str) -> Embedding:
    """An embedding whose vectors are those of the tokens of `text`: to name it is to say that."""
    ids = clip_tokenizer()(text, add_special_tokens=False).input_ids
    return Embedding(name, tuple(table(parts, at)[ids].clone() for at in range(len(parts.encoders))))


@pytest.mark.parametrize("base", ["sd15", "sdxl"])
@pytest.mark.parametrize("prompt", ["a {} on a mat", "{}", "a ({}:1.3), cat", "a " * 74 + "{} a", "a BREAK {}"])
def test_a_word_is_its_vectors(parts: dict[str, Parts], base: str, prompt: str) -> None:
    model = parts[base]
    before = [table(model, at) for at in range(len(model.encoders))]
    said = "red striped cat"
    embeddings = [of_words(model, "toy", "blue dog"), of_words(model, "toy-uc", said)]
    with torch.no_grad():
        found = encode(model.encoders, [prompt.format("Toy-UC")], 1, read_emphasis, embeddings)
        # In the long prompt the word goes as a whole into the next row, as the WebUIs have it.
        spelled = prompt.replace("{} a", "BREAK red striped cat a") if "a a a" in prompt else prompt.format(said)
        expected = encode(model.encoders, [spelled], 1, read_emphasis)
    assert torch.equal(found.context, expected.context)
    assert base == "sd15" or torch.equal(found.pooled, expected.pooled)  # type: ignore[arg-type]
    assert all(table(model, at) is weights for at, weights in enumerate(before))


def test_the_longest_word_counts_and_others_are_text() -> None:
    tokenizer = clip_tokenizer()
    names = {name: tuple(tokenizer(name, add_special_tokens=False).input_ids) for name in ("toy", "toy-uc")}
    words = {names["toy"]: range(100000, 100002), names["toy-uc"]: range(100002, 100003)}
    (row,) = chunks(tokenizer, [read_emphasis("toy toys toy-uc toy")], 0, words)[0]
    learned = [token for token in row.ids if token >= 100000]
    assert learned == [100000, 100001, 100002, 100000, 100001]
    assert len(row.ids) == CHUNK + 2


def test_an_embedding_for_another_checkpoint_is_refused_and_nothing_is_left(parts: dict[str, Parts]) -> None:
    for base, embedding in (
        ("sd15", Embedding("wide", (torch.zeros(1, 8),))),
        ("sdxl", Embedding("single", (table(parts["sdxl"])[:1],))),
    ):
        before = table(parts[base])
        with pytest.raises(MotionError, match=f"{embedding.name} does not fit this checkpoint"):
            encode(parts[base].encoders, ["a"], embeddings=[embedding])
        assert table(parts[base]) is before
    encoder = parts["sd15"].encoders[0]
    with (
        pytest.raises(MotionError, match="no prompt can name the embedding"),
        learned_words(encoder, 0, [Embedding(" ", (table(parts["sd15"])[:1],))]),
    ):
        pytest.fail("it was worn")
    with pytest.raises(KeyError), learned_words(encoder, 0, [of_words(parts["sd15"], "toy", "cat")]):
        raise KeyError
    assert len(table(parts["sd15"])) == encoder.model.config.vocab_size
