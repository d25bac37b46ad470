"""Whoever patches returns the undo. Undo is by identity: only what was put there is taken away."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

Undo = Callable[[], None]

_log = logging.getLogger(__name__)


def after(module: nn.Module, hook: Callable[[nn.Module, Any, Any], Any]) -> Undo:
    """Let ``hook(module, args, output)`` see, or by returning something replace, the output of ``module``."""
    return _undo(module._forward_hooks, module.register_forward_hook(hook), hook)


def before(module: nn.Module, hook: Callable[..., Any], with_kwargs: bool = False) -> Undo:
    """Let ``hook(module, args[, kwargs])`` see, or by returning something replace, the input of ``module``."""
    handle = module.register_forward_pre_hook(hook, with_kwargs=with_kwargs)
    return _undo(module._forward_pre_hooks, handle, hook)


def _undo(table: dict[int, Any], handle: RemovableHandle, hook: Callable[..., Any]) -> Undo:
    def undo() -> None:
        if table.get(handle.id) is hook:
            handle.remove()
        else:
            _log.warning("a hook of this extension was removed by somebody else: %s", hook)

    return undo
