"""The host's buttons Save and Zip on clips."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zipfile import ZipFile

import pytest
from PIL import Image

from motion.extension import saving
from motion.hosts.webui.backends import base


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Its options, and what its page may show: files in "shown"."""
    options = SimpleNamespace(save_selected_only=True)
    for folder in ("shown", "saved"):
        (tmp_path / folder).mkdir()
    modules = {
        "shared": SimpleNamespace(opts=options, demo=None),
        "ui_tempdir": SimpleNamespace(check_tmp_file=lambda _, name: Path(name).parent == tmp_path / "shown"),
        "ui_common": SimpleNamespace(save_files=own(tmp_path / "saved")),
    }
    for module in (base, saving):
        monkeypatch.setattr(module, "host_module", modules.__getitem__)
    return SimpleNamespace(options=options, modules=modules)


def own(folder: Path) -> saving.Save:
    """As the host saves: pictures, with an archive of them in front."""

    def save(js_data: str, images: Any, do_make_zip: bool, index: int) -> Any:
        files = [str(folder / "picture.png")]
        Path(files[0]).write_bytes(b"picture")
        if do_make_zip:
            with ZipFile(folder / "all.zip", "w") as archive:
                archive.write(files[0], "picture.png")
            files.insert(0, str(folder / "all.zip"))
        return {"value": files, "__type__": "update"}, "Saved"

    return save


def names(saved: Any) -> list[str]:
    return [Path(file).name for file in saved[0]["value"]]


def test_what_is_chosen_is_saved_with_its_clip(host: Any, tmp_path: Path) -> None:
    """A cover with its clips, a frame by itself, all of them if none is chosen; each under a name that is free."""
    clips = []
    for number, name in enumerate(("a.gif", "a.mp4", "b.gif")):
        path = tmp_path / "shown" / name
        path.write_bytes(name.encode())
        clips.append({"path": str(path), "image": number // 2})
    result = json.dumps({"clips": clips, "index_of_first_image": 0})
    save = saving.with_clips(own(tmp_path / "saved"))
    assert names(save(result, [], False, 2)) == ["picture.png"]
    assert names(save(result, [], False, 0)) == ["picture.png", "a.gif", "a.mp4"]
    assert names(save(result, [], True, -1)) == ["all.zip", "picture.png", "a-1.gif", "a-1.mp4", "b.gif"]
    with ZipFile(tmp_path / "saved" / "all.zip") as archive:
        assert archive.read("a-1.mp4") == b"a.mp4" and len(archive.namelist()) == 4
    host.options.save_selected_only = False
    assert len(names(save(result, [], False, 2))) == 4


def test_what_the_page_may_not_show_is_not_saved(host: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    clips = [{"path": str(path), "image": 0} for path in (secret, tmp_path / "shown" / "gone.gif")]
    save = saving.with_clips(own(tmp_path / "saved"))
    assert names(save(json.dumps({"clips": clips}), [], True, 0)) == ["all.zip", "picture.png"]
    assert names(save("{}", [], False, 0)) == ["picture.png"], "stills"


def test_it_goes_with_the_script(host: Any) -> None:
    undone: list[Any] = []
    host.modules["script_callbacks"] = SimpleNamespace(on_script_unloaded=undone.append)
    common = host.modules["ui_common"]
    found = common.save_files
    saving.register()
    assert common.save_files is not found
    undone[0]()
    assert common.save_files is found
    del common.save_files
    saving.register()


def test_the_host_is_given_pictures_in_full_colours(host: Any) -> None:
    """A GIF's palette too; what it is given otherwise stays as it is."""
    given: list[Any] = []
    save = saving.with_clips(lambda _, images, *more: (given.append(images), ({"value": []},))[1])
    picture, clip = Image.new("RGBA", (2, 2), "red"), Image.new("RGB", (2, 2), "red").convert("P")
    gallery = [(picture, "one"), (clip, None), {"name": "file"}]
    save("{}", gallery, False, -1)
    save("{}", None, False, -1)
    (one, two, three), nothing = given
    assert (one, three, nothing) == (gallery[0], gallery[2], None)
    assert (two[0].mode, two[0].getpixel((1, 1)), two[1]) == ("RGB", (255, 0, 0), None)
