"""What other scripts of the host cannot do on a clip is refused before it is drawn."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from motion.errors import MotionError
from motion.hosts.webui.beside import scripts as beside
from motion.sampling.windows import Windows

WHOLE, CUT, ATTENTION = Windows(16), Windows(24, 16), Windows(24, 16, engine="attention")
SAG = "SelfAttentionGuidance Integrated (SD 1.x, SD 2.x, SDXL)"
REGIONS = "Regional Prompter"


def job(title: str, *args: Any) -> Any:
    """The host's processing object with one script, whose arguments stand behind another's."""
    script = SimpleNamespace(title=lambda: title, args_from=2, args_to=2 + len(args))
    if title == "ControlNet":
        script.process_unit_after_click_generate = None
    return SimpleNamespace(scripts=SimpleNamespace(alwayson_scripts=[script]), script_args=(0, True, *args))


def reference(module: str = "reference_only", enabled: bool = True) -> Any:
    return SimpleNamespace(module=module, enabled=enabled)


@pytest.mark.parametrize(
    ("p", "name"),
    [
        (job(SAG, True, 0.5), SAG),
        (job("First Block Cache / TeaCache Integrated", True), "First Block Cache"),
        (job(REGIONS, True, "Matrix", "Attention"), REGIONS),
        (job("ControlNet", reference(enabled=False), reference("reference_adain")), "ControlNet's reference_adain"),
        (job("ControlNet", {"module": "reference_only", "batch_image_dir": "hints"}), "ControlNet's reference_only"),
    ],
)
def test_what_keeps_something_from_call_to_call_is_refused_in_windows(p: Any, name: str) -> None:
    with pytest.raises(MotionError, match=r"cannot work on a clip in windows: disable it, or set .*Temporal attention"):
        beside.check(p, CUT)
    with pytest.raises(MotionError) as refusal:
        beside.check(p, CUT)
    assert str(refusal.value).startswith(name)
    for windows in (WHOLE, ATTENTION):
        beside.check(p, windows)


@pytest.mark.parametrize(
    "p", [job("First Block Cache / TeaCache Integrated", True), job("ControlNet", reference("reference_only"))]
)
def test_what_leaves_out_layers_itself_or_records_them_is_refused_beside_the_step_cache(p: Any) -> None:
    beside.check(p, WHOLE)
    with pytest.raises(MotionError, match="and the step cache cannot go together: turn one of them off"):
        beside.check(p, WHOLE, cached=True)


@pytest.mark.parametrize(
    "p",
    [
        SimpleNamespace(scripts=None, script_args=()),
        job(SAG, False),
        job(SAG),
        job("StyleAlign Integrated", True),
        job(REGIONS, False, "Matrix", "Latent"),
        job("ControlNet", reference("canny"), reference(enabled=False)),
    ],
)
def test_all_else_may_be_drawn(p: Any) -> None:
    beside.check(p, CUT)


def test_what_mixes_up_frames_is_refused_for_every_clip() -> None:
    for windows in (WHOLE, CUT, ATTENTION):
        with pytest.raises(MotionError, match=r"^Regional Prompter's mode Latent .* set it to Attention$"):
            beside.check(job(REGIONS, True, "Matrix", "Latent"), windows)


def test_what_does_nothing_on_frames_is_refused_for_every_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "_references_find_rows", lambda: False)
    for windows in (WHOLE, CUT, ATTENTION):
        with pytest.raises(MotionError, match="do nothing on the frames of a clip in this WebUI: disable them"):
            beside.check(job("ControlNet", reference()), windows)
        beside.check(job("ControlNet", reference("canny")), windows)
