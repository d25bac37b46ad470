"""Every published layout becomes the right model, with the numbers of its file; a broken one names the key."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from motion.errors import MotionError
from motion.models.motion.architecture import Architecture
from motion.models.motion.model import MotionModel
from motion.weights.checkpoint import FAMILY_HINT, identify, load, read
from motion.weights.formats.names import to_diffusers


def hotshot(state):
    return {
        key.replace("motion_modules", "temporal_attentions")
        .replace("temporal_transformer.", "")
        .replace("pos_encoder.pe", "pos_encoder.positional_encoding"): tensor
        for key, tensor in state.items()
    }


def authors(state):
    return state


PUBLISHED = {
    "mm_sd_v15": (4, 24, False, authors, "v1"),
    "mm_sd_v15_v2": (4, 32, True, authors, "v2"),
    "v3_sd15_mm": (4, 32, False, authors, "v3"),
    "mm_sdxl_v10_beta": (3, 32, False, authors, "sdxl"),
    "hsxl_temporal_layers": (3, 24, False, hotshot, "hotshot"),
    "hotshot for A1111": (3, 24, False, authors, "hotshot"),
    "AnimateLCM": (4, None, True, authors, "animatelcm"),
    "Lightning, comfy": (4, 32, True, authors, "v2"),
    "Lightning, diffusers": (4, 32, True, to_diffusers, "v2"),
    "LongAnimateDiff 64": (4, 64, False, authors, "v3"),
    "LongAnimateDiff 64 with mid": (4, 64, True, authors, "v2"),
    "narrow, 16 frames": (4, 16, False, authors, "v3"),
    "adapter v1": (4, 24, False, to_diffusers, "v1"),
    "adapter v3": (4, 32, False, to_diffusers, "v3"),
    "adapter sdxl": (3, 32, False, to_diffusers, "sdxl"),
    "no table, no mid": (4, None, False, authors, "v3"),
}


@pytest.mark.parametrize(("levels", "positions", "mid", "rename", "family"), PUBLISHED.values(), ids=PUBLISHED)
def test_published_layouts(tmp_path, module, levels, positions, mid, rename, family):
    state = module(levels, positions, mid)
    torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in rename(state).items()}}, tmp_path / "m.ckpt")
    model = load(tmp_path / "m.ckpt")
    assert model.architecture.family.name == family
    assert {slot.positions for slot in model.architecture.slots} == {positions}
    loaded = model.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], state[key]) for key in state)
    assert not model.training and not any(parameter.requires_grad for parameter in model.parameters())


@settings(max_examples=15)
@given(
    widths=st.lists(st.sampled_from([32, 64, 96]), min_size=1, max_size=5),
    layers=st.integers(1, 2),
    positions=st.one_of(st.none(), st.integers(1, 70)),
    mid=st.booleans(),
)
def test_any_shape_comes_back_as_it_was_saved(scratch, widths, layers, positions, mid):
    architecture = Architecture.of_unet("v3", widths, layers, positions, mid)
    path = scratch / "shape.safetensors"
    path.unlink(missing_ok=True)
    save_file(MotionModel(architecture).state_dict(), path)
    assert set(load(path).architecture.slots) == set(architecture.slots)


def test_a_file_may_leave_slots_out(tmp_path, module):
    state = {key: tensor for key, tensor in module().items() if not key.startswith("up_blocks.1")}
    save_file(state, tmp_path / "m.safetensors")
    assert load(tmp_path / "m.safetensors").state_dict().keys() == state.keys()


def test_the_spatial_layers_of_a_training_checkpoint_are_dropped(tmp_path, module):
    state = module()
    spatial = {"conv_in.weight": torch.ones(32, 4, 3, 3), "mid_block.resnets.0.norm1.weight": torch.ones(32)}
    torch.save({"global_step": 5, "state_dict": state | spatial}, tmp_path / "checkpoint.ckpt")
    assert load(tmp_path / "checkpoint.ckpt").state_dict().keys() == state.keys()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_dtype_of_the_file_is_kept(tmp_path, module, dtype):
    state = {key: tensor.to(dtype) for key, tensor in module().items()}
    save_file(state, tmp_path / "m.safetensors")
    loaded = load(tmp_path / "m.safetensors").state_dict()
    assert {tensor.dtype for tensor in loaded.values()} == {dtype}
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_several_dtypes_become_float32(tmp_path, module):
    state = {key: tensor if key.endswith(".pe") else tensor.half() for key, tensor in module().items()}
    save_file(state, tmp_path / "m.safetensors")
    assert {tensor.dtype for tensor in load(tmp_path / "m.safetensors").state_dict().values()} == {torch.float32}


def test_a_loaded_model_does_not_depend_on_its_file(tmp_path, module):
    path = tmp_path / "m.safetensors"
    save_file(module(), path)
    loaded = load(path).state_dict()
    before = {key: tensor.clone() for key, tensor in loaded.items()}
    with path.open("r+b") as file:
        file.seek(-4096, 2)
        file.write(b"\0" * 4096)
    assert all(torch.equal(loaded[key], before[key]) for key in before)


@pytest.mark.parametrize(
    ("hint", "argument", "family"),
    [
        ("v3", None, "v3"),
        ("v1", None, "v1"),
        (None, "v3", "v3"),
        ("v3", "v1", "v1"),
        ("sdxl", None, "v1"),
        ("x", None, "v1"),
    ],
)
def test_a_hint_settles_what_keys_cannot_tell(tmp_path, module, hint, argument, family):
    save_file(module(positions=24), tmp_path / "m.safetensors", metadata={FAMILY_HINT: hint} if hint else None)
    assert load(tmp_path / "m.safetensors", family=argument).architecture.family.name == family


@pytest.mark.parametrize(
    ("rows", "length", "family"),
    [(24, 24, "v1"), (24, 32, "v1"), (24, 264, "v1"), (16, 40, "v1"), (32, 32, "v3"), (32, 64, "v3"), (264, 264, "v3"),
     (1, 32, "v3")],
)  # fmt: skip
def test_a_position_table_whose_rows_repeat_is_v1s(module, rows, length, family):
    """tumurzakov's training laid v1's table end to end, which the sinusoid of v3 never repeats."""
    state = module(positions=length)
    tiled = {
        key: value[:, :rows].repeat(1, -(-length // rows), 1)[:, :length]
        for key, value in state.items()
        if ".pe" in key
    }
    assert identify(state | tiled).family.name == family
    assert identify(state | tiled, hint="v3").family.name == "v3"


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module._orig_mod.", "unet.", "unet._orig_mod.", "model.", "a.b.model."]
)
def test_what_training_scripts_put_around_a_module_is_taken_off(tmp_path, module, prefix):
    state = module() | {"conv_in.weight": torch.ones(32, 4, 3, 3)}
    wrapped = {prefix + key: tensor for key, tensor in state.items()}
    for wrapper in (wrapped, {"state_dict": wrapped, "epoch": 1}, {"model": wrapped, "optimizer": {"state": {}}}):
        torch.save(wrapper, tmp_path / "m.ckpt")
        loaded = read(tmp_path / "m.ckpt")
        assert loaded.keys() == state.keys() and all(torch.equal(loaded[key], state[key]) for key in state)


def test_a_prefix_of_some_names_stays_and_is_named(tmp_path, module):
    wrapped = {f"unet.{key}": tensor for key, tensor in module().items()}
    torch.save(wrapped | {"head.weight": torch.ones(2)}, tmp_path / "m.ckpt")
    with pytest.raises(MotionError, match=r"'(unet\.|head).* belongs to no motion module"):
        load(tmp_path / "m.ckpt")


@pytest.mark.parametrize("scale", [torch.tensor(0.5), torch.rand(1) + 1, "rows"])
@pytest.mark.parametrize("names", [(".scale_weight", ".scale_input"), (".weight_scale", ".comfy_quant")])
def test_scaled_fp8_is_multiplied_out(tmp_path, module, scale, names):
    state, stored = module(), {"scaled_fp8": torch.zeros(0, dtype=torch.float8_e4m3fn)}
    for key, tensor in state.items():
        stored[key] = tensor.to(torch.float8_e4m3fn) if tensor.ndim == 2 else tensor
        if tensor.ndim == 2:
            by = torch.rand(len(tensor)) + 1 if scale == "rows" else scale.clone()
            stored[key.removesuffix(".weight") + names[0]], state[key] = by, (stored[key].float().T * by).T
            stored[key.removesuffix(".weight") + names[1]] = torch.ones(1)
    save_file(stored, tmp_path / "m.safetensors")
    loaded = read(tmp_path / "m.safetensors")
    assert loaded.keys() == state.keys() and all(torch.equal(loaded[key], state[key]) for key in state)
    packed = {key: value.view(torch.uint8) if value.dtype.itemsize == 1 else value for key, value in stored.items()}
    save_file(packed, tmp_path / "m.safetensors")
    with pytest.raises(MotionError, match=r"holds '.*weight' in a packed form"):
        read(tmp_path / "m.safetensors")


@pytest.mark.parametrize("family", ["sdxl", "v2", "nonsense"])
def test_a_family_that_cannot_be_is_refused(tmp_path, module, family):
    save_file(module(), tmp_path / "m.safetensors")
    with pytest.raises(MotionError, match=f"{family}.*v1 or v3"):
        load(tmp_path / "m.safetensors", family=family)


SLOT = "down_blocks.1.motion_modules.0.temporal_transformer."
BLOCK = f"{SLOT}transformer_blocks.0."
DAMAGE = {
    "no proj_in": (f"{SLOT}proj_in.weight", None),
    "no norm": (f"{SLOT}norm.bias", None),
    "no projection": (f"{BLOCK}attention_blocks.1.to_k.weight", None),
    "half a table": (f"{BLOCK}attention_blocks.1.pos_encoder.pe", None),
    "not square": (f"{SLOT}proj_in.weight", torch.ones(32, 64)),
    "other width": (f"{BLOCK}attention_blocks.0.to_q.weight", torch.ones(64, 64)),
    "convolution": (f"{SLOT}proj_out.weight", torch.ones(32, 32, 1, 1)),
    "other tables": (f"{BLOCK}attention_blocks.1.pos_encoder.pe", torch.ones(1, 16, 32)),
    "flat table": (f"{BLOCK}attention_blocks.0.pos_encoder.pe", torch.ones(32, 32)),
    "integers": (f"{SLOT}norm.weight", torch.ones(32, dtype=torch.int64)),
    "unknown": (f"{BLOCK}attention_blocks.0.to_q.bias", torch.ones(32)),
    "a third of an attention": (f"{BLOCK}attention_blocks.2.to_q.weight", torch.ones(32, 32)),
    "a foreign block": ("side_blocks.0.motion_modules.0.temporal_transformer.norm.weight", torch.ones(32)),
}


@pytest.mark.parametrize(("key", "tensor"), DAMAGE.values(), ids=DAMAGE)
def test_a_broken_module_names_the_key(tmp_path, module, key, tensor):
    state = {name: value for name, value in module().items() if name != key} | ({} if tensor is None else {key: tensor})
    path = tmp_path / "m.safetensors"
    save_file(state, path)
    with pytest.raises(MotionError) as caught:
        load(path)
    sentence = str(caught.value)
    named = key.rpartition("attention_blocks.2")[0] if "blocks.2" in key else key
    assert str(path) in sentence and named in sentence and "\n" not in sentence


def test_widths_that_heads_do_not_divide_are_refused(tmp_path):
    name = f"{SLOT}proj_in.weight"
    save_file({name: torch.ones(33, 33)}, tmp_path / "m.safetensors")
    with pytest.raises(MotionError, match="33 channels"):
        load(tmp_path / "m.safetensors")


def test_a_file_of_spatial_layers_under_motion_names_is_refused(tmp_path):
    save_file({f"down_blocks.0.attentions.0.{SLOT}norm.weight": torch.ones(1)}, tmp_path / "m.safetensors")
    with pytest.raises(MotionError, match="no motion layers"):
        load(tmp_path / "m.safetensors")
