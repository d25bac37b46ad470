"""Whoever patches returns the undo, and takes away only what was put there."""

from __future__ import annotations

import logging

import pytest
from torch import nn

from motion import patching


def test_an_item_comes_back_or_goes() -> None:
    table = {"there": 1}
    undos = [patching.item(table, "there", 2), patching.item(table, "new", 3)]
    assert table == {"there": 2, "new": 3}
    for undo in reversed(undos):
        undo()
    assert table == {"there": 1}


def test_what_somebody_else_has_put_there_stays(caplog: pytest.LogCaptureFixture) -> None:
    table = {"there": 1}
    undo = patching.item(table, "there", 2)
    table["there"] = 5
    with caplog.at_level(logging.WARNING):
        undo()
    assert table == {"there": 5} and "changed by somebody else" in caplog.text


def test_what_is_restored_later_is_whatever_happened() -> None:
    table = {"there": 1}
    undos = [patching.restore_later(table, "there"), patching.restore_later(table, "absent")]
    table.update(there=5, absent=6)
    for undo in undos:
        undo()
    assert table == {"there": 1}


def test_a_hook_that_somebody_has_removed_is_said(caplog: pytest.LogCaptureFixture) -> None:
    module = nn.Identity()
    undo, other = patching.after(module, lambda *_: None), patching.before(module, lambda *_: None)
    module._forward_hooks.clear()
    with caplog.at_level(logging.WARNING):
        undo()
        other()
    assert "removed by somebody else" in caplog.text
    assert not module._forward_pre_hooks
