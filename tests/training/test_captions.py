"""Captions as people save them: encodings, tables, and rows that fit nothing."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motion.errors import MotionError
from motion.video.captions import captions_of, read_text

TEXT = "eine Möwe, café"
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252")


def clips(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).touch()
    return [folder / name for name in names]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_text_is_read_in_whatever_encoding_it_was_saved(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes(TEXT.encode(encoding))
    (tmp_path / "b.csv").write_bytes(f"file,caption\nb.gif,{TEXT.replace(',', '')}\n".encode(encoding))
    assert list(captions_of(clips(tmp_path, "a.gif", "b.gif"), tmp_path).values()) == [TEXT, TEXT.replace(",", "")]


@given(st.binary())
def test_any_bytes_are_a_text(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("bytes") / "a.txt"
    path.write_bytes(data)
    assert isinstance(read_text(path), str)


@pytest.mark.parametrize(("name", "text"), [
    ("any.csv", 'file,caption\na.mp4,"a cow, white"\n'),
    ("any.csv", "file;caption\r\na;a cow, white\r\n"),
    ("metadata.csv", 'file_name,text\n"train/a.mp4","a cow, white"\n'),
    ("metadata.csv", "File_Name\tother\tText\nclips\\A.MP4\t1\ta cow, white\n"),
    ("metadata.jsonl", '{"file_name": "a.mp4", "text": "a cow, white", "more": 1}\n\n'),
    ("metadata.jsonl", '{"file": "a", "caption": "a cow, white"}'),
])  # fmt: skip
def test_tables_are_read_as_others_write_them(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    (clip,) = clips(tmp_path, "a.mp4")
    assert captions_of([clip], tmp_path) == {clip: "a cow, white"}
    (tmp_path / "a.txt").write_text("a text beside it counts more")
    assert captions_of([clip], tmp_path) == {clip: "a text beside it counts more"}


@pytest.mark.parametrize(("name", "text", "words"), [
    ("a.csv", "name,text\n", "lacks the columns file and caption"),
    ("a.csv", "", "lacks the columns file and caption"),
    ("a.csv", "file,caption\nb.mp4,x\nc.mp4,y\n", r"names no clip beside it \(b.mp4, c.mp4\)"),
    ("a.csv", "file,caption\na.mp4,x\na,y\n", "two captions for a.mp4"),
    ("a.jsonl", '{"file": "a.mp4", "caption": "x"}\n[1]', "line 2 of"),
    ("a.jsonl", "a.mp4: x", "line 1 of"),
    ("a.jsonl", '{"file": "a.mp4"}', "lacks the columns"),
    ("a.jsonl", '{"file": "a.mp4", "text": ["x", "y"]}', "line 1 of .* as text: give one text"),
])  # fmt: skip
def test_what_is_wrong_with_a_table_is_said(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(MotionError, match=words):
        captions_of(clips(tmp_path, "a.mp4"), tmp_path)


def test_rows_that_match_nothing_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = "".join(f"none{index}.mp4,x\n" for index in range(8))
    (tmp_path / "a.csv").write_text(f"file,caption\na.mp4,a cow\n{rows}")
    with caplog.at_level(logging.WARNING):
        assert list(captions_of(clips(tmp_path, "a.mp4"), tmp_path).values()) == ["a cow"]
    assert "none0.mp4, none1.mp4, none2.mp4, none3.mp4, none4.mp4 and 3 more" in caplog.text
