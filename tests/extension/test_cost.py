"""What a clip will take, told before it is drawn."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from motion.extension import cost
from motion.extension.cost import Cost
from motion.sampling.windows import Windows
from motion.settings.tab import Tab

LONG = Windows(64, 16, 4, schedule="static")


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that estimates a byte for each pixel, and has drawn nothing yet."""
    monkeypatch.setattr(
        cost, "host", lambda: SimpleNamespace(memory=lambda images, width, height: images * width * height)
    )
    monkeypatch.setattr(cost, "_seconds", [])


def of(windows: Windows, steps: int = 20, cfg: float = 7, clips: int = 1, **tab: Any) -> Cost:
    return Cost.of(Tab(frames=windows.frames, **tab), windows, steps, cfg, 512, 512, clips)


def test_calls_are_counted_by_windows_where_these_are_calls() -> None:
    each = len(LONG.at(0))
    assert of(LONG) == Cost(20 * each, 16, 2, 512, 512)
    assert of(Windows(64, 16, 4, engine="attention")) == Cost(20, 64, 2, 512, 512)
    assert of(Windows(16), cfg=1).prompts == 1
    assert of(LONG, clips=3, freeinit=2).calls == 6 * of(LONG).calls
    assert of(LONG, noise="inverted").calls == 4 * of(LONG).calls


def test_many_windows_are_counted_in_one_step() -> None:
    windows = Windows(10_000, 16, 4, schedule="static")
    assert of(windows).calls == 20 * len(windows.at(0))


def test_the_last_clip_is_the_measure() -> None:
    assert "last clip" not in of(LONG).describe()
    of(Windows(16)).remember(60)
    assert "about 60 s, as fast as the last clip" in of(Windows(16)).describe()
    assert "about 2 min" in of(Windows(16), clips=2).describe()
    assert "about 2.0 h" in of(Windows(16), clips=120).describe()


def test_memory_is_the_hosts_own_estimate() -> None:
    assert "0.0 GB of memory" in of(Windows(16)).describe()
    assert "(32 images with guidance)" in of(Windows(16)).describe()
