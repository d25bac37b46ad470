"""Infotext of clips: short, read back whole, also as 0.1.0 and sd-webui-animatediff wrote it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from motion.errors import MotionError
from motion.extension import infotext
from motion.extension.infotext import MODULE, PASTED, VERSION, read_notes, to_infotext, translate
from motion.fields.table import Image
from motion.settings.tab import TAB_FIELDS, Tab
from motion.weights.library import Entry

WRITTEN_BY_0_1_0 = {
    **{"Motion module": "v3 [0123456789]", "Motion frames": "24", "Motion FPS": "12", "Motion scale": "1.1"},
    **{"Motion loop": "Closed", "Motion seed mode": "Clip", "Motion noise": "Auto", "Motion beta schedule": "Auto"},
    **{"Motion context length": "0", "Motion context overlap": "4", "Motion context stride": "1"},
    **{"Motion context schedule": "Uniform", "Motion context fuse method": "Pyramid"},
    **{"Motion context engine": "Denoiser", "Motion FreeInit": "2", "Motion FreeInit filter": "Gaussian"},
    **{"Motion steady colours": "0.5", "Motion prompt travel": "Linear", "Motion adapter scale": "1"},
    **{"Motion trigger words": "no", "Motion formats": "GIF, MP4"},
}
"""Pairs as an infotext of July 2026 has them: every setting, and no version."""
OLD = (
    "enable: True, model: mm_sd_v15_v2.ckpt, video_length: 32, fps: 12, loop_number: 0, closed_loop: R+P, "
    "batch_size: 16, stride: 1, overlap: -1, interp: Off, interp_x: 10, mm_hash: 69ed0f5f"
)


@pytest.fixture(autouse=True)
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """The only module that there is."""
    path = tmp_path / "v3.safetensors"
    path.write_bytes(b"v3")

    def find(name: str) -> Entry:
        if not name.startswith(("v3", "mm_sd")):
            raise MotionError(f"{name!r} is none of the motion modules: give v3")
        return Entry("v3", path)

    monkeypatch.setattr(infotext, "library", lambda: SimpleNamespace(find=find))
    return Entry("v3", path)


def pasted(pairs: dict[str, str]) -> Tab:
    """What the page shows of the pairs."""
    values = {name: read(pairs) for name, read in PASTED.items() if not isinstance(TAB_FIELDS[name], Image)}
    return Tab(**{name: value for name, value in values.items() if value is not None})


def test_it_is_as_short_as_the_clip_is_plain(entry: Entry) -> None:
    assert list(to_infotext(Tab(module="v3"), entry, False)) == [MODULE, "Motion frames", "Motion FPS", VERSION]
    changed = to_infotext(Tab(module="v3", loop="closed", freeinit=2), entry, False)
    assert changed["Motion loop"] == "Closed" and changed["Motion FreeInit"] == "2"
    assert "Motion FreeInit filter" not in changed


def test_all_of_it_leaves_out_what_does_nothing(entry: Entry) -> None:
    texts = to_infotext(Tab(module="v3"), entry, False, whole=True)
    assert {"Motion noise", "Motion context overlap"} <= texts.keys()
    assert not {"Motion FreeInit filter", "Motion key scale", "Motion fade scale", "Motion last frame"} & texts.keys()
    assert "Motion FreeInit filter" in to_infotext(Tab(module="v3", freeinit=2), entry, False, whole=True)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # it is the same for all
@given(
    loop=st.sampled_from(["none", "closed", "ping-pong"]),
    frames=st.integers(1, 99),
    engine=st.sampled_from(["denoiser", "attention"]),
    formats=st.lists(st.sampled_from(["gif", "mp4", "frames"]), min_size=1, unique=True),
    whole=st.booleans(),
)
def test_it_is_read_back(loop: str, frames: int, engine: str, formats: list[str], whole: bool) -> None:
    tab = Tab(True, "v3", frames=frames, loop=loop, context_engine=engine, formats=tuple(formats))
    assert pasted(to_infotext(tab, Entry("v3", Path(__file__)), False, whole)) == tab


def test_the_last_frame_goes_by_its_digits(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = "0123456789abcdef"
    texts = to_infotext(Tab(module="v3", last_frame=digits), entry, True)
    assert texts["Motion last frame"] == digits
    monkeypatch.setattr(infotext.key_frame_images, "path", lambda name: Path(f"/kept/{name}.png"))
    assert PASTED["last_frame"](texts)["value"] == f"/kept/{digits}.png"
    assert PASTED["last_frame"]({MODULE: "v3"})["value"] is None, "another clip's is taken away"


def test_what_0_1_0_wrote_is_read() -> None:
    assert pasted(WRITTEN_BY_0_1_0) == Tab(
        True, "v3", frames=24, fps=12, scale=1.1, loop="closed", freeinit=2, freeinit_filter="gaussian",
        steady_colours=0.5, formats=("gif", "mp4"),
    )  # fmt: skip
    assert read_notes(WRITTEN_BY_0_1_0)["value"] == ""


def test_what_the_old_extension_wrote_is_translated() -> None:
    pairs: dict[str, Any] = {"AnimateDiff": OLD}
    translate("", pairs)
    assert pasted(pairs) == Tab(
        True, "v3", frames=32, fps=12, loop="closed", context_length=16, context_overlap=4
    )  # fmt: skip
    assert "AnimateDiff" in read_notes(pairs)["value"]
    pairs = {"AnimateDiff": OLD.replace("video_length: 32", "video_length: 0, format: ['GIF', 'PNG']")}
    translate("", pairs)
    assert (pasted(pairs).frames, pasted(pairs).formats) == (16, ("gif", "frames"))
    for other in ("enable: False, model: mm_sd_v15_v2.ckpt", "", "no parameters at all"):
        pairs = {"AnimateDiff": other}
        translate("", pairs)
        assert pairs == {"AnimateDiff": other}


def test_what_cannot_be_taken_over_is_said_in_a_line_each() -> None:
    said = read_notes({MODULE: "gone", "Motion frames": "0", "Motion loop": "sideways", VERSION: "99.0.0"})["value"]
    assert said.count("<p") == 4
    assert all(text in said for text in ("gone", "Frames stays", "Loop stays", "99.0.0"))
    assert read_notes({"Steps": "3"})["value"] == ""
