"""How strongly a LoRA file changes its layers, as its tensors, its metadata or PEFT's configuration say."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from motion.errors import MotionError
from motion.weights.formats.pairs import open_lora, pairs
from motion.weights.formats.peft import METADATA, PeftConfig

LAYERS = ("down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", "mid_block.attentions.0.proj_in")
RANK = 4


def peft(*layers: str) -> dict[str, Tensor]:
    sides = {"lora_A": (RANK, 8), "lora_B": (8, RANK)}
    return {f"{layer}.{side}.weight": torch.ones(shape) for layer in layers for side, shape in sides.items()}


def saved(path: Path, tensors: dict[str, Tensor], config: Any = None) -> Path:
    save_file(
        tensors, path, {} if config is None else {METADATA: config if isinstance(config, str) else json.dumps(config)}
    )
    return path


def scales(path: Path) -> list[float]:
    return [pair.scale for _, pair in sorted(open_lora(path).pairs.items())]


@given(alpha=st.floats(0.01, 1000), rank=st.integers(1, 64))
def test_the_scale_is_alpha_over_rank(alpha: float, rank: int) -> None:
    tensors = {
        "a.lora_down.weight": torch.ones(rank, 3),
        "a.lora_up.weight": torch.ones(2, rank),
        "a.alpha": torch.tensor(alpha, dtype=torch.float64),
    }
    pair = pairs(tensors, PeftConfig())["a"]
    assert pair.scale == alpha / rank
    torch.testing.assert_close(pair.delta(), torch.full((2, 3), alpha, dtype=torch.float32))


CONFIGS: dict[str, tuple[dict[str, Any], list[float]]] = {
    "none": ({}, [1, 1]),
    "rank alone": ({"r": 4}, [1, 1]),
    "alpha": ({"r": 4, "lora_alpha": 32}, [8, 8]),
    "rslora": ({"lora_alpha": 32, "use_rslora": True}, [16, 16]),
    "pattern": ({"lora_alpha": 32, "alpha_pattern": {LAYERS[0]: 2}}, [0.5, 8]),
    "pattern of ends": ({"alpha_pattern": {"to_q": 2, "^mid_block.attentions.0.proj_in": 6.0}}, [0.5, 1.5]),
    "pattern of no end": ({"lora_alpha": 4, "alpha_pattern": {"o_q": 2}}, [1, 1]),
    "rslora and pattern": ({"lora_alpha": 4, "use_rslora": True, "alpha_pattern": {"proj_in": 6}}, [2, 3]),
    "said to be none": ({"lora_alpha": 4, "use_dora": False, "alpha_pattern": None, "rank_pattern": {}}, [1, 1]),
}


@pytest.mark.parametrize("config", CONFIGS)
def test_pefts_configuration_counts_wherever_it_stands(config: str, tmp_path: Path) -> None:
    given, expected = CONFIGS[config]
    parts = {f"unet.{name}": value for name, value in given.items()} | {"text_encoder.lora_alpha": 99}
    in_parts = saved(tmp_path / "diffusers.sft", peft(*(f"unet.{layer}" for layer in LAYERS)), parts)
    of_unet = saved(tmp_path / "unet.safetensors", peft(*LAYERS), parts)
    alone = saved(tmp_path / "alone.safetensors", peft(*LAYERS), given)
    own = saved(tmp_path / "adapter_model.safetensors", peft(*(f"base_model.model.{layer}" for layer in LAYERS)))
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", **given}))
    for path in (in_parts, of_unet, alone, own):
        assert scales(path) == pytest.approx(expected)


def test_each_part_of_the_model_has_its_own_alpha(tmp_path: Path) -> None:
    text = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    config = {"unet.lora_alpha": 8, "text_encoder.lora_alpha": 2, "text_encoder.use_rslora": True}
    assert scales(saved(tmp_path / "l.safetensors", peft(text, f"unet.{LAYERS[0]}"), config)) == [1, 2]
    assert scales(saved(tmp_path / "u.safetensors", peft(text, f"unet.{LAYERS[0]}"), {"unet.lora_alpha": 8})) == [1, 2]


def test_an_alpha_beside_the_matrices_comes_first(tmp_path: Path) -> None:
    tensors = peft(*LAYERS) | {f"{LAYERS[0]}.alpha": torch.tensor(12.0)}
    assert scales(saved(tmp_path / "l.safetensors", tensors, {"lora_alpha": 4})) == [3, 1]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"use_dora": True}, "is a DoRA"),
        ({"unet.use_dora": True}, "is a DoRA"),
        ({"alpha_pattern": {"to_(q|k)": 2}}, "has an expression in its alpha_pattern"),
        *(
            (config, "has a damaged lora_adapter_metadata")
            for config in ('{"lora_alpha": "much"}', "[1]", "{", {"lora_alpha": -1}, {"lora_alpha": True}, "null", "3",
                           {"lora_alpha": math.inf}, {"alpha_pattern": 3}, {"alpha_pattern": {"to_q": None}})
        ),
    ],
)  # fmt: skip
def test_configurations_that_cannot_be_are_refused(config: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(MotionError, match=f"l.safetensors {words}"):
        open_lora(saved(tmp_path / "l.safetensors", peft(*LAYERS), config))


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (peft("a") | {"a.dora_scale": torch.ones(8, 1)}, "is a DoRA .see a.dora_scale"),
        (peft("a") | {"a.lora_magnitude_vector.weight": torch.ones(8)}, "is a DoRA"),
        (peft("a") | {"b.lora_A.weight": torch.ones(4, 8)}, "not a plain LoRA .see b.lora_B"),
        (peft("a") | {"b.alpha": torch.ones(())}, "not a plain LoRA .see b.alpha"),
        (peft("a") | {f"a.lora_{side}.other.weight": torch.ones(8, 8) for side in "AB"}, "holds several adapters"),
        ({"down_blocks.0.attn2.processor.to_k_custom_diffusion.weight": torch.ones(8, 8)}, "a Custom Diffusion file"),
        (
            {"model.diffusion_model.a.attn2.to_k.weight": torch.ones(8, 8), "embed": torch.ones(1, 8)},
            "Custom Diffusion",
        ),
        ({"unet.a.attn2.to_v.weight": torch.ones(8, 8), "modifier_token.<new1>": torch.ones(8)}, "Custom Diffusion"),
        ({"string_to_param.*": torch.ones(2, 768)}, "textual inversion embedding, and no LoRA"),
    ],
)
def test_what_is_no_plain_lora_is_named(tensors: dict[str, Tensor], words: str, tmp_path: Path) -> None:
    with pytest.raises(MotionError, match=f"l.safetensors .*{words}"):
        open_lora(saved(tmp_path / "l.safetensors", tensors))
