"""LoRAs that a prompt names: read as the WebUI reads them, or refused; no tag is told to a text encoder."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motion.errors import MotionError
from motion.settings.lora_tags import LoraTag, lora_tags, without_tags

TAGS = {
    "<lora:ink>": LoraTag("ink", 1, 1),
    "<lora:ink:>": LoraTag("ink", 1, 1),
    "<lora:ink:0.8>": LoraTag("ink", 0.8, 0.8),
    "<lyco:ink:-0.8>": LoraTag("ink", -0.8, -0.8),
    "<lora:ink:0.8:0.5>": LoraTag("ink", 0.8, 0.5),
    "<lora:ink:te=0.5:unet=1>": LoraTag("ink", 0.5, 1),
    "<lora:ink:0.8:te=0.5>": LoraTag("ink", 0.5, 0.5),
    "<lora:ink:0.8:unet=0.5>": LoraTag("ink", 0.8, 0.5),
    "<lora:ink:0.8:0.7:te=0.5:unet=0>": LoraTag("ink", 0.5, 0),
    "<lora:a (b) c.1:1>": LoraTag("a (b) c.1", 1, 1),
    "<lora:ink:0:1>": LoraTag("ink", 0, 1),
    "<lora:ink:0: 1, 8: 0.2>": LoraTag("ink", "0: 1, 8: 0.2", "0: 1, 8: 0.2"),
    "<lora:ink:smooth 0:1,-1:-0.2 * 2>": LoraTag("ink", *["smooth 0: 1, -1: -0.2 * 2"] * 2),
}


@pytest.mark.parametrize("tag", TAGS)
def test_tags_are_read_as_the_webui_reads_them(tag: str) -> None:
    assert lora_tags(f"a {tag}cat {tag}") == [TAGS[tag]] * 2
    assert without_tags(f"a {tag}cat") == "a cat"


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("<lora:ink:1:1:lbw=MIDD>", "ink with lbw"),
        ("<lora:ink:1:lbw=1,0,0:start=5>", "ink with (lbw|start)"),
        ("<lora:ink:1:1:32>", "ink with 32"),
        ("<lora:ink:1:dyn=32>", "ink with dyn"),
        ("<lora:ink:1,0,0,1>", "weight is 1,0,0,1"),
        ("<lora:ink:much>", "weight is much"),
        ("<lora:ink:unet=nan>", "weight is nan"),
        ("<lora:ink:99>", "weight is 99"),
        ("<lora:ink:0: 1, 8: 99>", "weight of the LoRA ink is .* comes to 99"),
        ("<lora:ink:0: 1, 8: x>", "weight of the LoRA ink is .* should be a number"),
        ("<lora:ink:@0: 1, @1: 0>", "in a prompt give a curve over frames alone"),
        ("<lora:ink:audio(beat.wav, bass)>", "in a prompt give a curve over frames alone"),
        ("<lora:ink:1@0,0@0.5>", "weight is 1@0"),
        ("<lora::1>", "no name"),
        ("<lora:te=1>", "no name"),
        ("<hypernet:ink:1>", "<hypernet:ink:1>"),
        ("<LORA:ink:1>", "<LORA:ink:1>"),
        ("<lora:ink:1", "has <lora:ink:1"),
        ("< lora:ink:1>", "has < lora:ink:1>"),
        ("<lora>", "has <lora>"),
        ("<lo<lyco:a:1>ra", "has <lora"),
    ],
)
def test_what_cannot_be_followed_is_refused(tag: str, words: str) -> None:
    with pytest.raises(MotionError, match=words):
        lora_tags(f"a cat {tag}")


@given(
    st.lists(st.sampled_from(["<", ">", ":", "lora", "ink", "=", "te", "unet", "1", "0.5", " ", "<lora:a>", "<3"])).map(
        "".join
    )
)
def test_no_tag_is_told_to_a_text_encoder(prompt: str) -> None:
    try:
        lora_tags(prompt)
    except MotionError:
        return
    assert "<lora:" not in without_tags(prompt)
