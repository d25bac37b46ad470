"""What a call of the UNet is given, cut to the rows of a window."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from motion.sampling.rows import Rows, take_call, take_options

FRAMES = 6


@st.composite
def calls(draw: st.DrawFn) -> tuple[int, int, list[int]]:
    """Frames, prompts, and the frames of a window."""
    frames, prompts = draw(st.integers(2, 12)), draw(st.integers(1, 3))
    window = draw(st.lists(st.integers(0, frames - 1), min_size=1, max_size=frames, unique=True))
    return frames, prompts, window


def options_of(frames: int, conds: list[int]) -> dict[str, Any]:
    """What Forge's and ldm_patched's samplers put into `transformer_options` of a call."""
    rows = [(kind, place * frames + frame) for place, kind in enumerate(conds) for frame in range(frames)]
    return {
        "cond_or_uncond": conds,
        "cond_indices": [row for kind, row in rows if kind == 0],
        "uncond_indices": [row for kind, row in rows if kind == 1],
        "cond_mark": torch.tensor([float(kind) for kind, _ in rows]),
        "sigmas": torch.arange(float(frames)),
    }


@given(calls(), st.sampled_from(["list", "tensor"]))
def test_options_are_those_of_a_call_with_these_frames(call: tuple[int, int, list[int]], kind: str) -> None:
    """As the host would have made them for a clip that is no longer than the window."""
    frames, prompts, window = call
    conds = [1, 0, 0][:prompts]
    given, batch = options_of(frames, conds), frames * prompts
    rows = Rows([prompt * frames + frame for prompt in range(prompts) for frame in window])
    if kind == "tensor":
        given = {name: torch.tensor(value) if "indices" in name else value for name, value in given.items()}
    found, wanted = take_options(given, rows, batch), options_of(len(window), conds)
    for name in ("cond_indices", "uncond_indices"):
        assert isinstance(found[name], Tensor) == (kind == "tensor")
        assert list(found[name]) == wanted[name]
    assert torch.equal(found["cond_mark"], wanted["cond_mark"])
    assert found["sigmas"].tolist() == [float(frame) for frame in window] or frames == 1
    assert found["cond_or_uncond"] == conds


@pytest.mark.parametrize("name", ["sample_sigmas", "sampling_sigmas"])
def test_as_many_steps_as_rows_are_left_alone(name: str) -> None:
    levels = torch.arange(12.0)
    found = take_options({name: levels, "ours": levels}, Rows([0, 1, 6, 7]), len(levels))
    assert found[name] is levels
    assert found["ours"].tolist() == [0, 1, 6, 7], "a tensor of an extension's, by its rows"


def test_a_call_is_taken_whole_with_what_is_made_when_it_comes() -> None:
    class Later:
        def of_rows(self, rows: Rows) -> list[int]:
            return rows.numbers

    x, given = torch.randn(FRAMES, 2), {"cond_indices": [0, 1], "uncond_indices": []}
    args, kwargs = take_call((x, 5.0), {"control": Later(), "transformer_options": given}, Rows([1, 4]), FRAMES)
    assert torch.equal(args[0], x[[1, 4]])
    assert args[1] == 5.0
    assert kwargs["control"] == [1, 4]
    assert kwargs["transformer_options"] == {"cond_indices": [0], "uncond_indices": []}
    assert given["cond_indices"] == [0, 1], "the host's own are not touched"
