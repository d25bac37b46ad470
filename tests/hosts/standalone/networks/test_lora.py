"""LoRAs: found by name, on the right layers at the right strength, and taken off without a trace."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from motion.errors import MotionError
from motion.fields.table import Size
from motion.hosts.standalone import Lora, Networks, Standalone
from motion.hosts.standalone.checkpoint import Parts
from motion.hosts.standalone.networks import lora
from motion.hosts.standalone.networks.lora_weights import merge_loras
from motion.settings.settings import Clip
from tests.support.small import far

UNET = "down_blocks.1.attentions.0.transformer_blocks.0.attn1"
TEXT = "encoder.layers.0.self_attn.q_proj"


def pair(layer: nn.Module, rank: int = 4) -> tuple[Tensor, Tensor]:
    """Random down and up matrices for a layer."""
    out, *inner = layer.weight.shape
    return torch.randn(rank, *inner), torch.randn(out, rank, *[1 for _ in inner[1:]])


def text_layer(parts: Parts, index: int) -> nn.Module:
    model = parts.encoders[index].model
    return getattr(model, "text_model", model).get_submodule(TEXT)


@pytest.mark.parametrize(
    ("base", "layer", "stem", "down", "up"),
    [
        ("sd15", f"{UNET}.to_q", f"lora_unet_{UNET.replace('.', '_')}_to_q", ".lora_down.weight", ".lora_up.weight"),
        ("sd15", f"{UNET}.to_out.0", f"unet.{UNET}.to_out.0", ".lora_A.weight", ".lora_B.weight"),
        ("sd15", f"{UNET}.to_out.0", f"unet.{UNET}.processor.to_out", "_lora.down.weight", "_lora.up.weight"),
        ("sd15", f"{UNET}.to_k", f"{UNET}.processor.to_k", "_lora.down.weight", "_lora.up.weight"),
        (
            "sd15",
            "down_blocks.0.resnets.0.conv1",
            "lora_unet_input_blocks_1_0_in_layers_2",
            *(".lora_down.weight", ".lora_up.weight"),
        ),
        ("sd15", 0, f"lora_te_text_model_{TEXT.replace('.', '_')}", ".lora_down.weight", ".lora_up.weight"),
        (
            "sd15",
            0,
            f"text_encoder.text_model.{TEXT}",
            ".lora_linear_layer.down.weight",
            ".lora_linear_layer.up.weight",
        ),
        (
            "sd15",
            0,
            f"text_encoder.text_model.{TEXT.replace('q_proj', 'to_q')}",
            *("_lora.down.weight", "_lora.up.weight"),
        ),
        (
            "sdxl",
            f"{UNET}.to_q",
            "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q",
            *(".lora_down.weight", ".lora_up.weight"),
        ),
        (
            "sdxl",
            "up_blocks.0.upsamplers.0.conv",
            "lora_unet_output_blocks_2_2_conv",
            ".lora_down.weight",
            ".lora_up.weight",
        ),
        ("sdxl", 0, f"lora_te1_text_model_{TEXT.replace('.', '_')}", ".lora_down.weight", ".lora_up.weight"),
        ("sdxl", 1, f"lora_te2_text_model_{TEXT.replace('.', '_')}", ".lora_down.weight", ".lora_up.weight"),
    ],
)
def test_every_naming_reaches_its_layer(
    parts: dict[str, Parts], tmp_path: Path, base: str, layer: str | int, stem: str, down: str, up: str
) -> None:
    target = text_layer(parts[base], layer) if isinstance(layer, int) else parts[base].unet.get_submodule(layer)
    matrices = pair(target)
    save_file({stem + down: matrices[0], stem + up: matrices[1]}, tmp_path / "l.safetensors")
    original, numbers = target.weight, target.weight.clone()
    with merge_loras(parts[base], [Lora(tmp_path / "l.safetensors", 0.5)]):
        product = torch.einsum("or,r...->o...", matrices[1].flatten(1), matrices[0])
        assert far(target.weight, numbers + 0.5 * product) <= 1e-6
    assert target.weight is original
    assert torch.equal(target.weight, numbers)


def kohya(parts: Parts, folder: Path, name: str = "ink", alpha: float = 2.0) -> Path:
    """A LoRA of all self-attention queries, under kohya's names."""
    torch.manual_seed(3)
    state = {}
    for layer_name, layer in parts.unet.named_modules():
        if layer_name.endswith("attn1.to_q"):
            stem = f"lora_unet_{layer_name.replace('.', '_')}"
            state[f"{stem}.lora_down.weight"], state[f"{stem}.lora_up.weight"] = pair(layer)
            state[f"{stem}.alpha"] = torch.tensor(alpha)
    save_file(state, folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


def test_alpha_over_rank_scales_and_loras_add_up(parts: dict[str, Parts], tmp_path: Path) -> None:
    file, layer = kohya(parts["sd15"], tmp_path), parts["sd15"].unet.get_submodule(f"{UNET}.to_q")
    before = layer.weight.clone()
    with merge_loras(parts["sd15"], [Lora(file, 1.0)]):
        once = layer.weight - before
    with merge_loras(parts["sd15"], [Lora(file, 0.5), Lora(kohya(parts["sd15"], tmp_path, "double", alpha=4.0), 0.25)]):
        assert far(layer.weight - before, once) <= 1e-6


def test_layers_in_eight_bits_keep_theirs_and_are_given_the_product(tiny: Path, tmp_path: Path) -> None:
    """Of a convolution, too, that goes in steps of two."""
    unet = Standalone.open(tiny / "sd15.safetensors", device="cpu", dtype="fp8").parts.unet
    names = {f"{UNET}.to_q": (2, 5, 64), "down_blocks.0.downsamplers.0.conv": (1, 32, 6, 6)}
    torch.manual_seed(3)
    pairs = {name: pair(unet.get_submodule(name)) for name in names}
    state = {
        f"{name}.lora_{half}.weight": matrix
        for name, both in pairs.items()
        for half, matrix in zip("AB", both, strict=True)
    }
    save_file(state, tmp_path / "l.safetensors")
    for name, shape in names.items():
        layer, x = unet.get_submodule(name), torch.randn(shape, dtype=torch.bfloat16)
        plain = layer(x)
        with merge_loras(Parts("sd15", unet, None, ()), [Lora(tmp_path / "l.safetensors", 0.01)]):  # type: ignore[arg-type]
            changed = layer(x)
        assert layer.weight.dtype == torch.float8_e4m3fn and torch.equal(layer(x), plain)
        down, up = pairs[name]
        weight = layer.weight.float() + 0.01 * torch.einsum("or,r...->o...", up.flatten(1), down)
        bias = None if layer.bias is None else layer.bias.float()
        wanted = F.linear(x.float(), weight, bias) if x.ndim == 3 else F.conv2d(x.float(), weight, bias, 2, 1)
        assert far(changed.float(), wanted) < 1e-2 < far(plain.float(), wanted)


def test_a_prompt_names_the_lora_it_wears(tiny: Path, tmp_path: Path) -> None:
    host = Standalone.open(tiny / "sd15.safetensors", device="cpu")
    kohya(host.parts, tmp_path)
    clip = Clip(prompt="a cat", frames=2, steps=2, seed=1, size=Size(64, 64))
    plain = host.render(clip)
    ids = [id(tensor) for tensor in (*host.parts.unet.parameters(), *host.parts.unet.modules())]

    def drawn(prompt: str) -> np.ndarray:
        return host.render(replace(clip, prompt=prompt), Networks(loras=lora.gather(prompt, folder=tmp_path)))

    assert not np.array_equal(drawn("a cat<lora:ink:0.8>"), plain)
    assert np.array_equal(drawn("a cat<lora:ink:0>"), plain)
    assert np.array_equal(host.render(clip), plain)
    with pytest.raises(MotionError, match="negative prompt names a LoRA: name it in the prompt"):
        host.render(replace(clip, negative="a dog<lora:ink:0.8>"))
    assert [id(tensor) for tensor in (*host.parts.unet.parameters(), *host.parts.unet.modules())] == ids


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        (
            {"lora_unet_no_such_layer.lora_down.weight": (4, 8), "lora_unet_no_such_layer.lora_up.weight": (8, 4)},
            "does not fit",
        ),
        (
            {"lora_unet_conv_in.lora_down.weight": (4, 8, 3, 3), "lora_unet_conv_in.lora_up.weight": (8, 4, 1, 1)},
            "does not fit",
        ),
        (
            {"lora_unet_conv_in.lora_down.weight": (4, 4, 3, 3), "lora_unet_conv_in.lora_up.weight": (32, 5, 1, 1)},
            "does not fit",
        ),
        ({"lora_unet_conv_in.lora_down.weight": (), "lora_unet_conv_in.lora_up.weight": ()}, "does not fit"),
        ({"lora_unet_conv_in.lora_down.weight": (4, 4, 3, 3)}, "not a plain LoRA .*lora_up"),
        ({"lora_unet_conv_in.hada_w1_a": (4, 4)}, "not a plain LoRA .*hada_w1_a"),
        (
            {
                f"down_blocks.0.motion_modules.0.attn1.to_q.lora_{side}.weight": shape
                for side, shape in {"A": (4, 8), "B": (8, 4)}.items()
            },
            "is a motion LoRA: give it with --motion-lora",
        ),
    ],
)
def test_other_loras_are_refused_by_key(
    parts: dict[str, Parts], tmp_path: Path, state: dict[str, tuple[int, ...]], sentence: str
) -> None:
    save_file({name: torch.zeros(shape) for name, shape in state.items()}, tmp_path / "other.safetensors")
    before = list(parts["sd15"].unet.parameters())
    with pytest.raises(MotionError, match=sentence), merge_loras(parts["sd15"], [Lora(tmp_path / "other.safetensors")]):
        pytest.fail("it was merged")
    assert all(a is b for a, b in zip(before, parts["sd15"].unet.parameters(), strict=True))


def test_files_are_found_by_name_and_weight(tmp_path: Path) -> None:
    ink, oil = tmp_path / "ink.safetensors", tmp_path / "oil=wet.pt"
    ink.touch(), oil.touch()
    (tmp_path / "sea.sft").touch()
    assert lora.gather("a <lora:ink> b <lora:sea:1:-0.5>", folder=tmp_path) == [
        Lora(ink, 1.0, 1.0), Lora(tmp_path / "sea.sft", -0.5, 1.0)
    ]  # fmt: skip
    assert lora.parse(f"{ink}=0.3") == Lora(ink, 0.3)
    assert lora.parse(str(oil)) == Lora(oil, 1.0)
    assert lora.gather("x<lora:ink:0.7>", [Lora(ink, 0.1)]) == [Lora(ink, 0.7, 0.7)]


def test_text_encoders_have_a_weight_of_their_own(parts: dict[str, Parts], tmp_path: Path) -> None:
    layers = {f"{UNET}.to_q": parts["sd15"].unet.get_submodule(f"{UNET}.to_q"), TEXT: text_layer(parts["sd15"], 0)}
    state, before = {}, {name: layer.weight.clone() for name, layer in layers.items()}
    for name, prefix in zip(layers, ("unet.", "text_encoder.text_model."), strict=True):
        state[f"{prefix}{name}.lora_A.weight"], state[f"{prefix}{name}.lora_B.weight"] = pair(layers[name])
    save_file(state, tmp_path / "l.safetensors")

    def changes(*weights: float) -> list[Tensor]:
        with merge_loras(parts["sd15"], [Lora(tmp_path / "l.safetensors", *weights)]):
            return [layer.weight - before[name] for name, layer in layers.items()]

    whole, apart = changes(1.0), changes(0.5, 0.25)
    assert far(apart[0], 0.5 * whole[0]) <= 1e-5 and far(apart[1], 0.25 * whole[1]) <= 1e-5


def everywhere(parts: Parts, folder: Path) -> Path:
    """A LoRA of UNet, convolutions among its layers, and text encoder."""
    layers = {
        f"lora_unet_{UNET.replace('.', '_')}_to_q": parts.unet.get_submodule(f"{UNET}.to_q"),
        "lora_unet_down_blocks_0_resnets_0_conv1": parts.unet.get_submodule("down_blocks.0.resnets.0.conv1"),
        f"lora_te_text_model_{TEXT.replace('.', '_')}": text_layer(parts, 0),
    }
    state: dict[str, Tensor] = {}
    for stem, layer in layers.items():
        down, up = pair(layer)
        state |= {f"{stem}.lora_down.weight": 0.1 * down, f"{stem}.lora_up.weight": 0.1 * up}
    save_file(state, folder / "ink.safetensors")
    return folder


def test_a_line_of_a_prompt_wears_loras_of_its_own(tiny: Path, tmp_path: Path) -> None:
    """Without motion each frame is a picture of its own: that with the weight of its line, text encoder included,
    and the negative prompt with it."""
    host = Standalone.open(tiny / "sd15.safetensors", device="cpu")
    folder = everywhere(host.parts, tmp_path)
    clip = Clip(prompt="", frames=4, steps=2, seed=1, size=Size(64, 64), negative="blurry")

    def latents(prompt: str) -> Tensor:
        asked = replace(clip, prompt=prompt)
        loras = lora.gather(prompt, folder=folder, frames=clip.frames)
        return host._latents([asked], Networks(loras=loras), None)[0]

    plain, worn, half = (latents(f"a cat<lora:ink:{weight}>") for weight in ("0", "1.2", "0.6"))
    assert far(worn, plain) > 1e-2 < far(half, plain)
    lines = latents("0-1: a cat<lora:ink:1.2>\n3: a cat")
    assert far(lines[:2], worn[:2]) < 1e-4 > far(lines[3:], plain[3:])
    curve = latents("a cat<lora:ink:0: 0, 2: 0.6, 3: 1.2>")
    assert far(curve[0], plain[0]) < 1e-4
    assert far(curve[2:], torch.stack([half[2], worn[3]])) < 1e-4
    assert torch.equal(latents("a cat<lora:ink:0: 0.6, -1: 0.6>"), half), "a constant curve is the number"
    assert torch.equal(latents("0: a cat<lora:ink:0.6>\n-1: a cat <lora:ink:0.6>"), half)


def test_loras_of_lines_go_through_windows(tiny: Path, tmp_path: Path) -> None:
    host = Standalone.open(tiny / "sd15.safetensors", device="cpu")
    folder = everywhere(host.parts, tmp_path)
    clip = Clip(prompt="0: a<lora:ink:1>\n-1: b", frames=6, steps=2, seed=1, size=Size(64, 64))
    loras = lora.gather(clip.prompt, folder=folder, frames=clip.frames)
    assert str(loras[0]) == "ink: by frame"
    whole = host.render(clip, Networks(loras=loras))
    cut = replace(clip, context_length=3, context_overlap=1)
    assert host.render(cut, Networks(loras=loras)).shape == whole.shape


@pytest.mark.parametrize("prompt", ["<lora:none:1>", "<lora:../ink:1>", "<lora:ink:much>"])
def test_tags_that_cannot_be_are_refused(prompt: str, tmp_path: Path) -> None:
    (tmp_path / "ink.safetensors").touch()
    (tmp_path / "sub").mkdir()
    with pytest.raises(MotionError, match="LoRA"):
        lora.gather(prompt, folder=tmp_path / "sub" if ".." in prompt else tmp_path)
    with pytest.raises(MotionError, match="--lora"):
        lora.gather("<lora:ink:1>")
