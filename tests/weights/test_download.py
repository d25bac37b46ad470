"""The table of published files, and downloads: whole and checked, or refused with the way by hand. No network."""

from __future__ import annotations

import contextvars
import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections import namedtuple
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from types import ModuleType, SimpleNamespace

import pytest

from motion.errors import MotionError
from motion.models.motion.architecture import FAMILIES
from motion.weights import download as downloads
from motion.weights.download import KnownModel, download, known
from motion.weights.library import Library

ROOT = Path(__file__).parents[2]
CONTENT = b"motion" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "0123456789" * 4
MODEL = KnownModel("Test", "owner/name", "folder/mm.ckpt", "v3", "sd15", len(CONTENT), SHA256, "")
PART = ".mm.ckpt.download"
INCOMPLETE = ".cache/huggingface/download/x.incomplete"


class Hub:
    """What stands for huggingface_hub: one file, and what goes wrong."""

    def __init__(self):
        self.etag, self.size, self.body = SHA256, len(CONTENT), CONTENT
        self.head_error = self.body_error = None
        self.between = lambda: None
        self.asked = []

    def hf_hub_url(self, *, repo_id, filename):
        return f"{repo_id}/{filename}"

    def get_hf_file_metadata(self, url):
        assert url == "owner/name/folder/mm.ckpt"
        self.asked.append("head")
        if self.head_error:
            raise self.head_error
        return SimpleNamespace(etag=self.etag, size=self.size, commit_hash=COMMIT)

    def hf_hub_download(self, *, repo_id, filename, revision, local_dir):
        assert (repo_id, filename, revision) == ("owner/name", "folder/mm.ckpt", COMMIT)
        self.asked.append("body")
        incomplete, target = Path(local_dir) / INCOMPLETE, Path(local_dir) / filename
        incomplete.parent.mkdir(parents=True, exist_ok=True)
        incomplete.write_bytes(self.body[:3000])
        self.between()
        if self.body_error:
            raise self.body_error
        target.parent.mkdir(parents=True, exist_ok=True)
        incomplete.write_bytes(self.body)
        incomplete.replace(target)
        return str(target)


@pytest.fixture
def hub(monkeypatch):
    hub, package, constants = Hub(), ModuleType("huggingface_hub"), ModuleType("huggingface_hub.constants")
    for name in ("hf_hub_url", "get_hf_file_metadata", "hf_hub_download"):
        setattr(package, name, getattr(hub, name))
    hub.constants, constants.HF_HUB_OFFLINE = constants, False
    monkeypatch.setitem(sys.modules, "huggingface_hub", package)
    monkeypatch.setitem(sys.modules, "huggingface_hub.constants", constants)
    return hub


def refusal(folder, model=MODEL):
    """The sentence; it always names the file, the link and the folder."""
    with pytest.raises(MotionError) as refused:
        download(model, folder)
    sentence = str(refused.value)
    assert sentence.startswith("mm.ckpt was not downloaded, because ") and "\n" not in sentence
    assert sentence.endswith(
        f": get https://huggingface.co/owner/name/resolve/main/folder/mm.ckpt by hand and put it into {folder}"
    )
    return sentence


def test_the_table_is_well_formed():
    rows = json.loads((ROOT / "motion/weights/known_models.json").read_text(encoding="utf-8"))
    assert [model.name for model in known()] == [row["name"] for row in rows]
    assert len({(model.repo, model.file) for model in known()}) == len({model.name for model in known()}) == len(rows)
    assert len({model.filename for model in known()}) == len(rows)
    for model in known():
        assert model.repo.count("/") == 1 and PurePosixPath(model.file).suffix in (".ckpt", ".safetensors")
        assert model.family in FAMILIES and FAMILIES[model.family].base == model.base
        assert model.size is None or 10**8 < model.size < 10**10
        assert model.sha256 is None or (len(model.sha256) == 64 and int(model.sha256, 16))
        assert "icence" in model.note or "converted from" in model.note


def test_a_file_arrives_under_its_plain_name_with_nothing_beside_it(tmp_path, hub):
    folder = tmp_path / "new/models"
    assert download(MODEL, folder) == folder / "mm.ckpt"
    assert (folder / "mm.ckpt").read_bytes() == CONTENT
    assert [path.name for path in folder.iterdir()] == ["mm.ckpt"]


def test_a_file_that_is_there_is_not_fetched(tmp_path, hub):
    (tmp_path / "mm.ckpt").write_bytes(CONTENT)
    told = []
    assert download(MODEL, tmp_path, lambda *bytes: told.append(bytes)) == tmp_path / "mm.ckpt"
    assert hub.asked == [] and told == [(len(CONTENT),) * 2]
    download(replace(MODEL, sha256=None), tmp_path)
    assert hub.asked == ["head"]


@pytest.mark.parametrize("content", [b"short", b"x" * len(CONTENT)])
def test_another_file_of_that_name_is_left_alone(tmp_path, hub, content):
    (tmp_path / "mm.ckpt").write_bytes(content)
    for model in (MODEL, replace(MODEL, sha256=None, size=None)):
        assert "another file of that name" in refusal(tmp_path, model)
    assert (tmp_path / "mm.ckpt").read_bytes() == content and "body" not in hub.asked


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_a_damaged_file_never_shows(tmp_path, hub, sha256):
    hub.body = b"x" * len(CONTENT)
    assert "is damaged (its sha256 is not" in refusal(tmp_path, replace(MODEL, sha256=sha256))
    assert list(tmp_path.iterdir()) == []


def test_without_any_hash_the_size_decides(tmp_path, hub):
    hub.etag, model = "0" * 40, replace(MODEL, sha256=None)
    hub.body = CONTENT[:5000]
    assert "has 5000 bytes instead of 6000" in refusal(tmp_path, model)
    assert list(tmp_path.iterdir()) == []
    hub.etag, hub.body = None, CONTENT
    assert download(model, tmp_path).is_file()


def test_a_file_that_was_replaced_on_the_hub_is_not_even_fetched(tmp_path, hub):
    hub.etag = "f" * 64
    assert "the hub has another file under this name now" in refusal(tmp_path)
    assert hub.asked == ["head"]


def http_error(status):
    error = Exception("HTTP")
    error.response = SimpleNamespace(status_code=status)
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (http_error(401), r"wants an account for it or no longer shows it \(HTTP 401\)"),
        (http_error(404), r"no longer has it \(HTTP 404\)"),
        (http_error(503), r"has trouble \(HTTP 503\)"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), r"reached or read \(\[Errno \d+\] refused\)"),
        (TimeoutError("slow"), r"reached or read \(slow\)"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), r"/x cannot be used \(Permission denied\)"),
        (RuntimeError("xet"), r"reached or read \(xet\)"),
    ],
)
@pytest.mark.parametrize("when", ["head_error", "body_error"])
def test_what_goes_wrong_is_said(tmp_path, hub, error, reason, when):
    setattr(hub, when, error)
    with pytest.raises(MotionError, match=reason):
        download(MODEL, tmp_path)
    assert refusal(tmp_path)
    assert Library([tmp_path]).entries() == []


def test_the_cause_beneath_the_librarys_own_error_is_named(tmp_path, hub):
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as full:
            raise RuntimeError("download failed") from full
    except RuntimeError as error:
        hub.body_error = error
    assert "the disk is full" in refusal(tmp_path)


def test_what_can_be_resumed_is_kept_and_the_rest_is_not(tmp_path, hub):
    hub.body_error = ConnectionResetError("gone")
    refusal(tmp_path)
    assert (tmp_path / PART / INCOMPLETE).stat().st_size == 3000
    hub.between = (tmp_path / PART / INCOMPLETE).unlink
    refusal(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_passes_and_leaves_nothing_but_what_can_be_resumed(tmp_path, hub):
    hub.body_error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        download(MODEL, tmp_path, lambda *_: None)
    assert (tmp_path / PART / INCOMPLETE).is_file() and not (tmp_path / "mm.ckpt").exists()
    hub.body_error = None
    assert download(MODEL, tmp_path).is_file() and not (tmp_path / PART).exists()


def test_offline_is_said_before_anything_is_asked(tmp_path, hub):
    hub.constants.HF_HUB_OFFLINE = True
    assert "HF_HUB_OFFLINE" in refusal(tmp_path / "folder")
    assert hub.asked == [] and not (tmp_path / "folder").exists()


def test_a_missing_package_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "package huggingface_hub is missing" in refusal(tmp_path)


def test_a_disk_without_room_is_said_before_the_download(tmp_path, hub, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**6, 0, len(CONTENT) - 1))
    assert "the disk has room for" in refusal(tmp_path)
    assert hub.asked == ["head"] and list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_said(tmp_path, hub):
    (tmp_path / "file").touch()
    assert "cannot be used" in refusal(tmp_path / "file")


def test_progress_is_told_while_it_happens_and_at_the_end(tmp_path, hub, monkeypatch):
    monkeypatch.setattr(downloads, "INTERVAL", 0.001)
    page, told, half = contextvars.ContextVar("page"), [], threading.Event()
    page.set("mine")

    def progress(done, total):
        told.append((done, total, page.get()))
        if done == 3000:
            half.set()

    hub.between = lambda: half.wait(10)
    download(MODEL, tmp_path, progress)
    assert (3000, 6000, "mine") in told and told[-1] == (6000, 6000, "mine")
    assert not any(thread.name == "motion-download" for thread in threading.enumerate())


def test_a_second_press_of_the_button_is_refused(tmp_path, hub):
    def again():
        with pytest.raises(MotionError, match="being downloaded already"):
            download(MODEL, tmp_path)

    hub.between = again
    assert download(MODEL, tmp_path).is_file()
    assert download(MODEL, tmp_path).is_file()


class Handler(BaseHTTPRequestHandler):
    """As much of the hub as one file needs."""

    def do_HEAD(self):
        found = self.path.endswith("/folder/mm.ckpt")
        self.send_response(200 if found else 404)
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{SHA256}"', "Content-Length": len(CONTENT) if found else 0}
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        return found

    def do_GET(self):
        if self.do_HEAD():
            self.wfile.write(CONTENT)

    def log_message(self, *_):
        pass


def test_the_installed_huggingface_hub_does_what_is_expected_of_it(tmp_path):
    pytest.importorskip("huggingface_hub")
    code = (
        "import sys\nfrom pathlib import Path\nfrom motion.weights.download import *\n"
        f"model = KnownModel('', 'owner/name', sys.argv[1], 'v3', 'sd15', None, {SHA256!r}, '')\n"
        "try: print(download(model, Path(sys.argv[2]), lambda *told: None).name)\n"
        "except MotionError as error: print(error)\n"
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        env = {name: value for name, value in os.environ.items() if not name.lower().endswith(("_proxy", "_offline"))}
        env |= {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home")}

        def said(file):
            command = [sys.executable, "-W", "error", "-c", code, file, str(tmp_path / "models")]
            return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout

        assert said("folder/mm.ckpt") == "mm.ckpt\n"
        assert "the hub no longer has it (HTTP 404)" in said("folder/none.ckpt")
        server.shutdown()
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["mm.ckpt"]
    assert (tmp_path / "models/mm.ckpt").read_bytes() == CONTENT
