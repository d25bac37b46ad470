"""Whatever the bytes, a file is read as tensors or refused in one sentence, and nothing in it runs."""

from __future__ import annotations

import io
import os
import pickle
import sys
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import save, save_file
from torch import Tensor

from motion.errors import MotionError
from motion.weights.checkpoint import read
from motion.weights.files import open_weights, save_whole
from motion.weights.paths import SUFFIXES

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.float16)}


def zipped(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def legacy(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


CONTAINERS = {"safetensors": save(TENSORS), "zip": zipped(TENSORS), "legacy": legacy(TENSORS)}


class Attack:
    """Unpickled without restriction, it creates a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({str(self.trace)!r}, 'w')",)


def refusal(path: str | Path) -> str:
    with pytest.raises(MotionError) as caught:
        read(path)
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.endswith(".")
    return sentence


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        first[key].dtype == second[key].dtype and torch.equal(first[key], second[key]) for key in first
    )


@pytest.mark.parametrize("suffix", [".ckpt", ".PT", ".pth", ".bin"])
@pytest.mark.parametrize("content", CONTAINERS.values(), ids=CONTAINERS)
def test_the_content_decides_how_a_file_is_opened(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    assert same(read(path), TENSORS)
    assert same(read(str(path)), TENSORS)


@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_a_pickle_does_not_pass_for_safetensors(tmp_path: Path, container: str) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(CONTAINERS[container])
    assert "rename it to .ckpt" in refusal(path)


PREFIXES = (b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x04", b"\x20\0\0\0\0\0\0\0{", b"<html>", *CONTAINERS.values())


@settings(max_examples=120)
@given(prefix=st.sampled_from(PREFIXES), tail=st.binary(max_size=200), suffix=st.sampled_from(SUFFIXES))
def test_random_bytes(scratch: Path, prefix: bytes, tail: bytes, suffix: str) -> None:
    read_or_refused(scratch / f"random{suffix}", prefix + tail)


@settings(max_examples=120)
@given(content=st.sampled_from(list(CONTAINERS.values())), kept=st.floats(0, 1, exclude_max=True))
def test_truncated_files(scratch: Path, content: bytes, kept: float) -> None:
    read_or_refused(scratch / "truncated.ckpt", content[: int(len(content) * kept)])


@settings(max_examples=200)
@given(data=st.data(), content=st.sampled_from(list(CONTAINERS.values())))
def test_flipped_bytes(scratch: Path, data: st.DataObject, content: bytes) -> None:
    places = st.integers(0, len(content) - 1)
    changed = bytearray(content)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=4)):
        changed[place] = value
    read_or_refused(scratch / "flipped.ckpt", bytes(changed))


def read_or_refused(path: Path, content: bytes) -> None:
    # A new name each time: a file that is mapped by an earlier example must not change under it.
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    try:
        tensors = read(path)
    except MotionError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert tensors and all(isinstance(tensor, Tensor) for tensor in tensors.values())


@pytest.mark.parametrize(
    "pack",
    [
        zipped,
        legacy,
        lambda value: pickle.dumps(value, protocol=0),
        lambda value: pickle.dumps(value, protocol=2),
        lambda value: pickle.dumps(value, protocol=4),
    ],
    ids=["zip", "legacy", "protocol 0", "protocol 2", "protocol 4"],
)
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_a_malicious_pickle_runs_nothing(tmp_path: Path, pack: Any, suffix: str) -> None:
    trace, path = tmp_path / "trace", tmp_path / f"module{suffix}"
    path.write_bytes(pack({"state_dict": TENSORS, "callback": Attack(trace)}))
    assert str(path) in refusal(path)
    assert not trace.exists()


def test_the_refusal_of_a_pickle_names_what_it_asks_for(tmp_path: Path) -> None:
    path = tmp_path / "module.ckpt"
    path.write_bytes(zipped({"callback": Attack(tmp_path / "trace")}))
    sentence = refusal(path)
    assert "eval" in sentence and "safetensors" in sentence


def left_by_a_trainer(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What lies beside the tensors of files that trainers left; lightning itself is not installed."""
    modules = ("pytorch_lightning", "pytorch_lightning.callbacks", "pytorch_lightning.callbacks.model_checkpoint")
    for name in modules:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    callback = type("ModelCheckpoint", (), {"__module__": modules[-1]})
    sys.modules[modules[-1]].ModelCheckpoint = callback  # type: ignore[attr-defined]
    return {
        "callbacks": {callback: {"best": 1}, "made": callback()},
        "best": np.float64(0.5),
        "history": np.arange(3),
        "seen": {1, 2},
    }


@pytest.mark.parametrize("pack", [zipped, legacy])
def test_what_a1111_lets_through_is_opened_and_made_nothing_of(
    tmp_path: Path, pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, before = tmp_path / "model.ckpt", set(torch.serialization.get_safe_globals())
    content = pack({"state_dict": TENSORS, **left_by_a_trainer(monkeypatch)})
    monkeypatch.undo()
    path.write_bytes(content)
    assert same(read(path), TENSORS)
    assert set(torch.serialization.get_safe_globals()) == before
    trace = tmp_path / "trace"
    path.write_bytes(pack({"state_dict": TENSORS, "best": np.float64(0.5), "callback": Attack(trace)}))
    assert "eval" in refusal(path)
    assert not trace.exists()


def test_the_parameters_of_an_embedding_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "embedding.pt"
    path.write_bytes(zipped({"string_to_param": torch.nn.ParameterDict({"*": torch.ones(2)})}))
    assert same(read(path), {"string_to_param.*": torch.ones(2)})


def repacked(change: Any, method: int = zipfile.ZIP_STORED, beside: tuple[str, ...] = ()) -> bytes:
    """`TENSORS` as `torch.save` writes them, unpacked and packed again by another program."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(zipped(TENSORS))) as old, zipfile.ZipFile(buffer, "w", method) as new:
        for name in beside:
            new.writestr(name, b"")
        for name in old.namelist():
            new.writestr(change(name), old.read(name))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        repacked(str, zipfile.ZIP_DEFLATED, ("archive/",)),
        repacked(lambda name: f"model/{name}"),
        repacked(lambda name: name.partition("/")[2], zipfile.ZIP_DEFLATED),
        repacked(str, beside=("__MACOSX/._archive", ".DS_Store")),
    ],
    ids=["compressed", "a folder more", "a folder less", "a Mac's"],
)
def test_archives_that_were_packed_again(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.ckpt"
    path.write_bytes(content)
    assert same(read(path), TENSORS)


def test_an_archive_is_not_blown_up(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("m/data.pkl", b"\0" * (64 << 20))
    (tmp_path / "model.ckpt").write_bytes(buffer.getvalue())
    assert "unpack to 64 MiB" in refusal(tmp_path / "model.ckpt")


def archive(names: list[str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            file.writestr(name, pickle.dumps(1) if name.endswith("pkl") else b"3\n")
    return buffer.getvalue()


def tar(name: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as file:
        file.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (archive(["m/data.pkl", "m/version", "m/constants.pkl", "m/code/__torch__.py"]), "TorchScript"),
        (archive(["m/version", "m/weights/v3.ckpt"]), "zip archive"),
        (tar("storages"), "no weights file"),
        (tar("\udc80\x02storages"), "no weights file"),
    ],
    ids=["torchscript", "zip", "tar", "tar that begins like a pickle"],
)
def test_archives_never_reach_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, words: str
) -> None:
    # Before 2.6 torch.load opens TorchScript and tar archives without the restriction.
    opened: list[object] = []
    monkeypatch.setattr(torch, "load", lambda *args, **options: opened.append(args))
    path = tmp_path / "module.pt"
    path.write_bytes(content)
    assert words in refusal(path)
    assert not opened


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\n  <html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1", "git lfs pull"),
        (b'{"error": "not found"}', "JSON"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"just some text", "damaged"),
    ],
)
def test_impostors_are_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "module.safetensors"
    path.write_bytes(content)
    sentence = refusal(path)
    assert words in sentence and str(path) in sentence


def test_paths_that_are_no_weights_file(tmp_path: Path) -> None:
    (tmp_path / "clip.gif").write_bytes(CONTAINERS["safetensors"])
    assert "does not exist" in refusal(tmp_path / "none.ckpt")
    assert "is a directory" in refusal(tmp_path)
    assert ".safetensors" in refusal(tmp_path / "clip.gif")
    assert "cannot be read" in refusal(tmp_path / ("x" * 5000 + ".ckpt"))
    assert "cannot be read" in refusal(tmp_path / "clip.gif" / "x.ckpt")
    assert "is no path" in refusal("a\0b.ckpt")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes by name here")
def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "pipe.ckpt"
    os.mkfifo(path)
    assert "not a weights file" in refusal(path)


def prefixed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{name}": tensor for name, tensor in tensors.items()}


WRAPPED = {
    "state_dict": {"epoch": 3, "state_dict": TENSORS, "optimizer": {"state": {0: TENSORS}}},
    "module.": prefixed(TENSORS),
    "controlnet": {"controlnet": OrderedDict(TENSORS)},
    "all": {"state_dict": {"controlnet": prefixed(TENSORS) | {"animatediff_config": {"a": 1}}}, "global_step": 7},
    "animatediff_config": TENSORS | {"animatediff_config": {"table": torch.ones(1)}},
    "leaves": TENSORS | {"note": "text", "none": None, "steps": [1, 2], "lr": 1e-4, "shape": torch.Size([1])},
    "parameters": {name: torch.nn.Parameter(tensor) for name, tensor in TENSORS.items()},
}


@pytest.mark.parametrize("pack", [zipped, legacy])
@pytest.mark.parametrize("value", WRAPPED.values(), ids=WRAPPED)
def test_wrappers_are_peeled_off(tmp_path: Path, pack: Any, value: Any) -> None:
    path = tmp_path / "module.ckpt"
    path.write_bytes(pack(value))
    tensors = read(path)
    assert same(tensors, TENSORS)
    assert not any(tensor.requires_grad for tensor in tensors.values())


def test_the_prefix_is_peeled_off_safetensors_too(tmp_path: Path) -> None:
    save_file(prefixed(TENSORS), tmp_path / "module.safetensors")
    assert same(read(tmp_path / "module.safetensors"), TENSORS)


def test_other_tables_keep_their_name(tmp_path: Path) -> None:
    path = tmp_path / "camera.ckpt"
    path.write_bytes(zipped({"pose_encoder_state_dict": TENSORS, "epoch": 1}))
    assert read(path).keys() == {f"pose_encoder_state_dict.{name}" for name in TENSORS}


def endless() -> dict[str, Any]:
    table: dict[str, Any] = {}
    table["state_dict"] = table
    return table


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"epoch": 1}, "no tensors"),
        (endless(), "no tensors"),
        (torch.ones(2), "no table of tensors"),
        ([torch.ones(2)], "no table of tensors"),
        ({"a": torch.ones(1), "module.a": torch.ones(1)}, "'a' twice"),
        ({"a": torch.ones(1).expand(1000, 1000)}, "no plain data for 'a'"),
        ({"a": torch.ones(2, 2).to_sparse()}, "no plain data for 'a'"),
        ({"a": torch.ones(2, device="meta")}, "no plain data for 'a'"),
    ],
)
def test_contents_that_are_no_tensors(tmp_path: Path, value: Any, words: str) -> None:
    path = tmp_path / "module.ckpt"
    path.write_bytes(zipped(value))
    assert words in refusal(path)


def test_a_file_is_saved_whole_with_the_rights_of_any_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plain").touch()
    (tmp_path / "a.partial").touch(0o600)  # what a killed run leaves
    save_whole(TENSORS, tmp_path / "a.safetensors", {"key": "value"})
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert open_weights(tmp_path / "a.safetensors").metadata == {"key": "value"}
    before = (tmp_path / "a.safetensors").read_bytes()

    def full(*_: Any) -> None:
        raise SafetensorError("StorageFull: No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(MotionError, match=r"a\.safetensors cannot be saved .*free some room"):
        save_whole(TENSORS, tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"plain", "a.safetensors"}
