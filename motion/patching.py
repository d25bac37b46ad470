"""Whoever patches returns the undo. Undo is by identity: only what was put there is taken away."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from motion.errors import MotionError

Undo = Callable[[], None]

_ABSENT = object()
_log = logging.getLogger(__name__)


def after(module: nn.Module, hook: Callable[[nn.Module, Any, Any], Any], first: bool = False) -> Undo:
    """Let ``hook(module, args, output)`` see, or by returning something replace, the output of ``module``.

    ``first``: before the hooks that are there already.
    """
    return _undo(module._forward_hooks, module.register_forward_hook(hook, prepend=first), hook)


def before(module: nn.Module, hook: Callable[..., Any], with_kwargs: bool = False, first: bool = False) -> Undo:
    """Let ``hook(module, args[, kwargs])`` see, or by returning something replace, the input of ``module``.

    ``first``: before the hooks that are there already.
    """
    handle = module.register_forward_pre_hook(hook, with_kwargs=with_kwargs, prepend=first)
    return _undo(module._forward_pre_hooks, handle, hook)


def item(table: MutableMapping[Any, Any], key: Any, value: Any) -> Undo:
    """Put ``value`` into ``table``: a dictionary, or ``vars(owner)`` for an attribute of a module or an instance."""
    found = table.get(key, _ABSENT)
    table[key] = value

    def undo() -> None:
        if table.get(key, _ABSENT) is not value:
            _log.warning("%s was changed by somebody else while this extension used it; left as it is", key)
        elif found is _ABSENT:
            del table[key]
        else:
            table[key] = found

    return undo


def restore_later(table: MutableMapping[Any, Any], key: Any) -> Undo:
    """Change nothing; the undo puts back what ``key`` holds now, or its absence, whoever has changed it since."""
    found = table.get(key, _ABSENT)

    def undo() -> None:
        if found is _ABSENT:
            table.pop(key, None)
        else:
            table[key] = found

    return undo


@contextmanager
def uncompiled(unet: nn.Module) -> Iterator[nn.Module]:
    """Within the scope whatever `torch.compile` has made of ``unet``, in whole or in part, runs as it is written; the
    scope is given the module itself.

    Compiled code was traced without the hooks that come later, and is not traced anew for them: it would go on without
    them and without a word. Raises MotionError where torch cannot do without it (before 2.6).
    """
    plain: nn.Module = getattr(unet, "_orig_mod", unet)
    if "torch._dynamo" not in sys.modules:  # nobody has compiled anything
        yield plain
    elif hasattr(torch.compiler, "set_stance"):
        with torch.compiler.set_stance("force_eager"):
            yield plain
    elif any(_is_compiled(module) for module in (unet, *unet.modules())):
        raise MotionError("this UNet is compiled by torch.compile and would not move: turn that off, or use torch 2.6")
    else:
        yield plain


def _is_compiled(module: nn.Module) -> bool:
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


def _undo(table: dict[int, Any], handle: RemovableHandle, hook: Callable[..., Any]) -> Undo:
    def undo() -> None:
        if table.get(handle.id) is hook:
            handle.remove()
        else:
            _log.warning("a hook of this extension was removed by somebody else: %s", hook)

    return undo
