"""A description is JSON, agrees with the loaded model, and names what is wrong with a broken one."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from safetensors.torch import save_file

from motion.errors import MotionError
from motion.weights.checkpoint import FAMILY_HINT, load
from motion.weights.describe import describe


def test_a_motion_module(tmp_path, module):
    path = tmp_path / "v3.safetensors"
    state = {key: tensor.half() for key, tensor in module(positions=24).items()}
    save_file(state, path, metadata={FAMILY_HINT: "v3"})
    told = describe(path)
    model = load(path)
    content = path.read_bytes()
    assert json.loads(json.dumps(told)) == {
        "file": "v3.safetensors",
        "kind": "motion module",
        "layout": "authors",
        "base": "sd15",
        "family": "v3",
        "channels": [32],
        "slots": 12,
        "frames": model.architecture.max_frames,
        "problem": None,
        "tensors": len(state),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": "float16",
        "container": "safetensors",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "metadata": {FAMILY_HINT: "v3"},
    }


def test_a_pickle(tmp_path, module):
    torch.save(module(mid=True), tmp_path / "v2.ckpt")
    told = describe(tmp_path / "v2.ckpt")
    assert (told["family"], told["slots"], told["container"], told["metadata"]) == ("v2", 13, "pickle", {})


def test_a_broken_module_is_described_with_its_problem(tmp_path, module):
    state = module()
    key = next(key for key in state if key.endswith("norm.weight"))
    del state[key]
    save_file(state, tmp_path / "m.safetensors")
    told = describe(tmp_path / "m.safetensors")
    assert told["kind"] == "motion module" and key in str(told["problem"])


def test_what_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(MotionError, match="does not exist"):
        describe(tmp_path / "none.ckpt")
