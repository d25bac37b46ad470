"""What every job asks of a host."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from motion.hosts.webui import refusals

TASK = "task(a1b2c3)"
"""The job in progress."""


@pytest.fixture(autouse=True)
def progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's own, by whose tasks refusals are told apart."""
    monkeypatch.setattr(refusals, "host_module", {"progress": SimpleNamespace(current_task=TASK)}.__getitem__)
    monkeypatch.setattr(refusals.Refused, "_told", {})
