"""The host's buttons Save and Zip under the results: on a clip they save the clip too."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from PIL import Image

from motion import patching
from motion.hosts.webui.backends.base import host_module, option

Save = Callable[[str, Any, bool, int], Any]
"""The host's function: the result's text, the gallery, whether to zip, and the picture that is chosen, or -1."""


def register() -> None:
    """Called by the host before it builds its page."""
    common = host_module("ui_common")
    if hasattr(common, "save_files"):
        undo = patching.item(vars(common), "save_files", with_clips(common.save_files))
        host_module("script_callbacks").on_script_unloaded(undo)


def with_clips(save: Save) -> Save:
    """``save``, and the clips of what it saves beside that, in its list for downloads and in its archive."""

    def saved(js_data: str, images: Any, do_make_zip: bool, index: int) -> Any:
        answer = save(js_data, images and [_in_full_colours(item) for item in images], do_make_zip, index)
        update, *others = answer
        files = update.get("value") if isinstance(update, Mapping) else None
        if not files:
            return answer
        clips = [_copied(clip, Path(files[-1]).parent) for clip in _chosen(json.loads(js_data), index)]
        if clips and do_make_zip:
            with ZipFile(files[0], "a") as archive:
                for clip in clips:
                    archive.write(clip, clip.name)
        files += map(str, clips)
        return (update, *others)

    return saved


def _in_full_colours(item: Any) -> Any:
    """A picture of the gallery, a clip's too, as Forge can save it: it hides parameters in pixels, not in a palette."""
    if isinstance(item, tuple | list) and isinstance(item[0], Image.Image) and item[0].mode == "P":
        return (item[0].convert("RGB"), *item[1:])
    return item


def _chosen(result: Mapping[str, Any], index: int) -> list[Path]:
    """The clips of the pictures that the host saves: all, or that of the chosen one, which may be a frame of none.

    The text comes from the browser, so only files are taken that the page may show anyway.
    """
    one = index > -1 and option("save_selected_only", True) and index >= result.get("index_of_first_image", 0)
    paths = [Path(clip["path"]) for clip in result.get("clips", ()) if not one or clip["image"] == index]
    shown, demo = host_module("ui_tempdir").check_tmp_file, host_module("shared").demo
    return [path for path in paths if shown(demo, str(path)) and path.is_file()]


def _copied(clip: Path, folder: Path) -> Path:
    names = (clip.name if not again else f"{clip.stem}-{again}{clip.suffix}" for again in count())
    target = next(folder / name for name in names if not (folder / name).exists())
    return Path(shutil.copyfile(clip, target))
