"""A user's files: named, found, described and refused, whatever else lies in the folders."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from motion.errors import MotionError
from motion.models.motion.architecture import Architecture
from motion.models.motion.model import MotionModel
from motion.weights.library import UNREADABLE, Description, Entry, Library, short_hash

ROOT = Path(__file__).parents[2]


@lru_cache
def state(levels=4, positions=32, mid=False):
    return MotionModel(Architecture.of_unet("v3", (32,) * levels, 1, positions, mid)).state_dict()


def touch(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def names(*folders):
    return [entry.name for entry in Library(folders).entries()]


def entry(path):
    return Entry(path.stem, path)


def test_files_are_named_by_their_place_and_sorted_without_regard_to_case(tmp_path):
    for name in ("b.ckpt", "A.safetensors", "sd15/v3.PTH", "sd15/old/C.pt", "z.bin", "notes.txt", "v3.yaml"):
        touch(tmp_path / name)
    assert names(tmp_path) == ["A", "b", "sd15/old/C", "sd15/v3", "z"]
    assert all(entry.path.is_absolute() and entry.path.is_file() for entry in Library([tmp_path]).entries())


def test_names_that_collide_keep_what_sets_them_apart(tmp_path):
    for name in ("a/x.ckpt", "a/x.pt", "a/same.ckpt", "b/same.ckpt", "b/only.ckpt", "c/b/same.ckpt"):
        touch(tmp_path / name, name.encode())
    folders = [tmp_path / "a", tmp_path / "b", tmp_path / "c/b"]
    first = (tmp_path / "b/same.ckpt").as_posix()
    second = (tmp_path / "c/b/same.ckpt").as_posix()
    assert sorted(names(*folders)) == sorted(["a/same.ckpt", "only", "x.ckpt", "x.pt", first, second])


def test_a_file_that_two_folders_reach_is_listed_once(tmp_path):
    touch(tmp_path / "sub/x.ckpt")
    assert names(tmp_path, tmp_path / "sub", tmp_path) == ["sub/x"]


def test_links_are_followed_and_loops_end(tmp_path):
    touch(tmp_path / "real/deep/x.ckpt")
    touch(tmp_path / "elsewhere/y.ckpt")
    library = tmp_path / "library"
    library.mkdir()
    (library / "again").symlink_to(library, target_is_directory=True)
    (library / "linked").symlink_to(tmp_path / "real", target_is_directory=True)
    (library / "y.ckpt").symlink_to(tmp_path / "elsewhere/y.ckpt")
    (library / "dangling.ckpt").symlink_to(tmp_path / "none.ckpt")
    (library / "itself.ckpt").symlink_to(library / "itself.ckpt")
    assert names(library) == ["linked/deep/x", "y"]
    assert Library([library]).find(str(tmp_path / "real/deep/x.ckpt")).name == "linked/deep/x"


def test_a_directory_is_named_after_its_own_place_and_not_after_a_link(tmp_path):
    touch(tmp_path / "real/deep/x.ckpt")
    (tmp_path / "a_link").symlink_to(tmp_path / "real/deep", target_is_directory=True)
    assert names(tmp_path) == ["real/deep/x"]


def test_hidden_and_odd_things_are_no_entries(tmp_path):
    for name in ("._v3.ckpt", ".git/x.ckpt", ".v3.ckpt.download/v3.ckpt", "good.ckpt"):
        touch(tmp_path / name)
    (tmp_path / "folder.ckpt").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.ckpt")
    assert names(tmp_path) == ["good"]


def test_missing_and_unreadable_folders_are_no_error(tmp_path, monkeypatch):
    touch(tmp_path / "here/x.ckpt")
    touch(tmp_path / "here/locked/y.ckpt")
    listed = Path.iterdir

    def iterdir(path):
        if path.name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    odd = [tmp_path / "none", tmp_path / "here/x.ckpt", Path("nul\0"), Path("~nobody_at_all/x"), tmp_path / "here"]
    assert names(*odd) == ["x"]
    assert names() == []


def test_names_that_are_no_unicode_can_be_shown_and_found(tmp_path):
    try:
        touch(tmp_path / os.fsdecode(b"caf\xe9.ckpt"))
    except OSError:
        pytest.skip("the file system takes Unicode only")
    library = Library([tmp_path])
    assert [entry.name for entry in library.entries()] == ["caf\\udce9"]
    assert library.find("caf\\udce9").path.is_file()


@pytest.mark.parametrize(
    "name",
    ["sd15/v3", "sd15/v3.ckpt", "sd15\\v3.ckpt", "models/sd15/v3.ckpt", "v3.ckpt", " v3", "v3 [HASH]", "FULL", "UP"],
)  # fmt: skip
def test_find_takes_every_way_to_name_a_file(tmp_path, name):
    path = touch(tmp_path / "models/sd15/v3.ckpt")
    touch(tmp_path / "models/other.ckpt")
    dotted = str(tmp_path / "models/../models/sd15/v3.ckpt")
    name = name.replace("HASH", short_hash(path)).replace("FULL", str(path)).replace("UP", dotted)
    assert Library([tmp_path / "models"]).find(name).path == path


@pytest.mark.parametrize("name", ["", " "])
def test_no_name_is_told_apart_from_a_wrong_one(tmp_path, name):
    with pytest.raises(MotionError, match=r"^there are no motion modules yet: put"):
        Library([tmp_path]).find(name)
    touch(tmp_path / "v3.ckpt")
    with pytest.raises(MotionError, match=r"^none of the motion modules is chosen: choose one such as v3, or put"):
        Library([tmp_path]).find(name)


def test_the_examples_are_of_the_kind_that_is_asked_for(tmp_path, monkeypatch):
    kinds = {"pan": "motion LoRA", "v3": "motion module", "broken": "unreadable"}
    for name in kinds:
        touch(tmp_path / f"{name}.ckpt")
    monkeypatch.setattr(Library, "describe", staticmethod(lambda entry: Description(kinds[entry.name])))
    with pytest.raises(MotionError, match="'pa' is none of the motion modules: give one such as v3, or put"):
        Library([tmp_path], kinds=["motion module"]).find("pa")
    with pytest.raises(MotionError, match="there are no encoders yet"):
        Library([tmp_path], "encoders", ["SparseCtrl"]).find("v3x")


@pytest.mark.parametrize("name", ["none", "/etc/passwd", "../outside", "nul\0", "/nul\0", "x" * 10_000, "[a]"])
def test_what_is_not_there_is_refused(tmp_path, name):
    touch(tmp_path / "outside.ckpt")
    touch(tmp_path / "models/v3.ckpt")
    with pytest.raises(MotionError, match=r"is none of the motion modules.* v3, or put the file into .*models"):
        Library([tmp_path / "models"]).find(name)


def test_the_refusal_names_what_is_near(tmp_path):
    for name in ("v3_sd15_mm", "mm_sd_v15", "mm_sd_v15_v2", "hotshot", "other1", "other2", "other3"):
        touch(tmp_path / f"{name}.ckpt")
    with pytest.raises(MotionError) as refused:
        Library([tmp_path]).find("MM_SD_V15_V3")
    assert "such as mm_sd_v15_v2, mm_sd_v15" in str(refused.value) and "hotshot" not in str(refused.value)


def test_an_empty_library_says_where_to_put_files(tmp_path):
    with pytest.raises(MotionError, match=r"no motion modules yet: put the file into .*first"):
        Library([tmp_path / "first", tmp_path / "second"]).find("v3")
    with pytest.raises(MotionError, match="name a folder"):
        Library([]).find("v3")


def test_a_name_that_can_be_two_files_is_refused_unless_a_hash_tells_them_apart(tmp_path):
    touch(tmp_path / "a/v3.ckpt", b"one")
    second = touch(tmp_path / "b/v3.ckpt", b"two")
    library = Library([tmp_path])
    with pytest.raises(MotionError, match=r"'v3' can be any of a/v3, b/v3"):
        library.find("v3")
    assert library.find(f"v3 [{short_hash(second)}]").path == second


def test_another_hash_is_another_file(tmp_path):
    path = touch(tmp_path / "v3.ckpt")
    with pytest.raises(MotionError, match=rf"is another file than v3 \[{short_hash(path)}\]: give the name alone"):
        Library([tmp_path]).find("v3 [0123456789]")
    with pytest.raises(MotionError, match="none of the motion modules"):
        Library([tmp_path]).find("unknown [0123456789]")
    literal = touch(tmp_path / "v3 [0123456789].ckpt")
    assert Library([tmp_path]).find("v3 [0123456789]").path == literal


STEMS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='/\\<>:"|?*'), min_size=1, max_size=6)
PLACES = st.tuples(st.sampled_from(["a", "b", "a/sub"]), STEMS, st.sampled_from([".ckpt", ".safetensors", ".PT"]))


@settings(max_examples=60)
@given(st.lists(PLACES, max_size=6, unique_by=lambda place: (place[0], place[1].casefold(), place[2])))
def test_every_file_has_a_name_of_its_own_that_finds_it(places):
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        paths = [touch(root / place / f"f{stem}{suffix}") for place, stem, suffix in places]
        library = Library([root / "a", root / "b"])
        entries = library.entries()
        assert {entry.path for entry in entries} == set(paths)
        assert len({entry.name for entry in entries}) == len(entries)
        for entry in entries:
            assert library.find(entry.name) == entry
            assert library.find(str(entry.path)) == entry
            assert library.find(f"{entry.name} [{short_hash(entry.path)}]") == entry


@settings(max_examples=200)
@given(st.text() | st.from_regex(r"v3( \[[0-9a-f]{10}\])?", fullmatch=True))
def test_any_text_is_an_entry_or_a_refusal(text):
    with tempfile.TemporaryDirectory() as name:
        path = touch(Path(name) / "v3.ckpt")
        try:
            assert Library([Path(name)]).find(text).path == path
        except MotionError as refused:
            assert "\n" not in str(refused)


def test_a_module_is_described(tmp_path):
    for levels, positions, mid, family, base, frames in [
        (4, 24, False, "v1", "sd15", 24),
        (4, 32, True, "v2", "sd15", 32),
        (4, 64, False, "v3", "sd15", 64),
        (4, None, True, "animatelcm", "sd15", 64),
        (3, 32, False, "sdxl", "sdxl", 32),
    ]:
        path = tmp_path / f"{family}.safetensors"
        save_file(state(levels, positions, mid), path)
        told = Library.describe(entry(path))
        assert told == Description("motion module", family, base, frames, (32,), None)
        assert Library.misfit(told, base) is None and Library.misfit(told, None) is None
        other = {"sd15": "sdxl", "sdxl": "sd15"}[base]
        assert Library.misfit(told, other) == {"sd15": "made for SD1.5", "sdxl": "made for SDXL"}[base]


def test_files_of_another_kind_say_what_they_are(tmp_path):
    path = tmp_path / "lora.safetensors"
    key = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.processor."
    save_file({f"{key}to_q_lora.down.weight": torch.zeros(4, 32)}, path)
    told = Library.describe(entry(path))
    assert told.kind == "motion LoRA" and told.problem is None
    assert Library.misfit(told, "sd15") == "a motion LoRA"
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    assert Library.misfit(Library.describe(entry(tmp_path / "x.safetensors")), None) == "a weights file of unknown kind"


@pytest.mark.parametrize(
    ("content", "misfit"),
    [
        (b"", "damaged: it is empty"),
        (b"<!doctype html>", "damaged: it is a web page and not the weights"),
        (b"\x80\x02cos\nsystem\n.", "damaged: it asks for os.system when opened"),
        (b"garbage", "it is damaged, incomplete or no weights file"),
    ],
)
def test_broken_files_are_described_by_their_problem(tmp_path, content, misfit):
    path = touch(tmp_path / "broken.ckpt", content)
    told = Library.describe(entry(path))
    assert told.kind == UNREADABLE and told.problem.startswith("it ") and told.base is None
    assert Library.misfit(told, "sd15").startswith(misfit)


def test_an_incomplete_module_names_the_missing_key(tmp_path):
    tensors = dict(state())
    del tensors["down_blocks.0.motion_modules.0.temporal_transformer.norm.weight"]
    save_file(tensors, tmp_path / "m.safetensors")
    told = Library.describe(entry(tmp_path / "m.safetensors"))
    assert told.kind == "motion module" and "download it again" in told.problem
    assert Library.misfit(told, "sd15").startswith("damaged: 'down_blocks.0.motion_modules.0.")


def test_a_file_that_is_gone_and_a_fault_of_our_own_are_described(tmp_path, monkeypatch):
    gone = Library.describe(entry(tmp_path / "gone.ckpt"))
    assert gone.kind == UNREADABLE and "No such file" in gone.problem
    path = touch(tmp_path / "v3.ckpt")
    monkeypatch.setattr("motion.weights.files.open_weights", lambda path: 1 / 0)
    assert Library.misfit(Library.describe(entry(path)), "sd15").startswith("damaged: it cannot be read (division")


def test_a_description_is_remembered_until_the_file_changes(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    save_file(state(), path)
    first = Library.describe(entry(path))
    with monkeypatch.context() as patch:
        patch.setattr("motion.weights.files.open_weights", lambda path: pytest.fail("opened again"))
        assert Library.describe(entry(path)) is first
    save_file(state(3), path)
    assert Library.describe(entry(path)).base == "sdxl"


def test_the_short_hash_is_that_of_the_content_now(tmp_path):
    path = touch(tmp_path / "v3.ckpt", b"one")
    assert short_hash(path) == hashlib.sha256(b"one").hexdigest()[:10]
    path.write_bytes(b"three")
    assert short_hash(path) == hashlib.sha256(b"three").hexdigest()[:10]
    with pytest.raises(MotionError, match="cannot be read"):
        short_hash(tmp_path / "none.ckpt")


def test_importing_the_library_is_cheap():
    packages = "motion.weights.library, motion.weights.download"
    code = f"import {packages}, sys; print({{'torch', 'huggingface_hub'}} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_the_host_gets_an_option_for_more_folders():
    code = (
        "import argparse, preload; parser = argparse.ArgumentParser(); preload.preload(parser)\n"
        "print(parser.parse_args('--motion-dir a --motion-dir b'.split()).motion_dir, parser.parse_args([]).motion_dir)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "['a', 'b'] []"


@pytest.mark.parametrize("kind", ["copy", "link", "hard link"])
def test_a_file_in_two_folders_is_one(tmp_path, kind):
    first, second = touch(tmp_path / "a/pan.ckpt", b"pan" * 9999), tmp_path / "b/deep/pan.ckpt"
    second.parent.mkdir(parents=True)
    if kind == "copy":
        second.write_bytes(first.read_bytes())
    elif kind == "link":
        second.symlink_to(first)
    else:
        second.hardlink_to(first)
    library = Library([tmp_path / "a", tmp_path / "b"])
    assert [entry.name for entry in library.entries()] == ["pan"]
    for name in ("pan", "pan.ckpt", "deep/pan.ckpt", "b/deep/pan.ckpt", str(first), str(second)):
        assert library.find(name).path == first


def test_files_of_one_name_and_size_that_differ_are_two(tmp_path):
    for folder, last in (("a", b"1"), ("b", b"2")):
        touch(tmp_path / folder / "pan.ckpt", b"pan" * 9999 + last)
    assert names(tmp_path / "a", tmp_path / "b") == ["a/pan.ckpt", "b/pan.ckpt"]
