"""One-shot faults: a function anywhere in the process that raises, or interrupts the job, in its n-th call."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

OURS = ("motion", "sparsectrl")
KINDS = ("error", "oom", "interrupt", "skip", "watch")


class Fault:
    """A wrapped function. It is the host's or the extension's own again as soon as it has fired or is disarmed.

    `where` is a dotted path (`motion.sampling.animation.attach`, `motion.sampling.rows.Rows.of`), `after` the
    calls that are let through. A function is replaced under every name that this project imported it by.
    """

    def __init__(self, where: str, kind: str, after: int = 0) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind is {kind}: choose one of {', '.join(KINDS)}")
        self.where, self.kind, self.after = where, kind, after
        self.calls = 0
        self.fired = False
        self.seen: list[list[Any]] = []
        self._places: list[tuple[Any, str, bool, Any]] = []
        owner, name = resolve(where)
        self._original = getattr(owner, name)
        self._wrapper = self._wrapped(self._original)
        for place, key in _bindings(owner, name, self._original):
            self._places.append((place, key, key in vars(place), vars(place).get(key)))
            setattr(place, key, self._wrapper)

    def disarm(self) -> dict[str, Any]:
        """Put everything back, and say what happened."""
        for place, name, own, original in self._places:
            if vars(place).get(name) is not self._wrapper:
                continue  # somebody else has replaced it since
            setattr(place, name, original) if own else delattr(place, name)
        self._places.clear()
        return {"where": self.where, "kind": self.kind, "calls": self.calls, "fired": self.fired, "seen": self.seen}

    def _wrapped(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.kind == "watch":
                self.seen.append([_describe(value) for value in (*args, *kwargs.values())])
            elif self.calls > self.after and not self.fired:
                self.fired = True
                self.disarm()
                self._happen()
            return original(*args, **kwargs)

        return wrapper

    def _happen(self) -> None:
        state = import_module("modules.shared").state
        if self.kind == "interrupt":
            state.interrupt()
        elif self.kind == "skip":
            state.skip()
        elif self.kind == "oom":
            raise torch.cuda.OutOfMemoryError("the probe ran out of memory")
        else:
            raise RuntimeError("the probe raised an error")


def resolve(where: str) -> tuple[Any, str]:
    """The module or class that holds what the path names, and its name there."""
    parts = where.split(".")
    for size in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:size])
        try:
            owner: Any = import_module(module)
        except ModuleNotFoundError:
            continue
        for part in parts[size:-1]:
            owner = getattr(owner, part)
        return owner, parts[-1]
    raise ModuleNotFoundError(where)


def _bindings(owner: Any, name: str, original: Any) -> list[tuple[Any, str]]:
    """Where the function is bound: in its owner, and in every module of ours that imported it by name."""
    found = [(owner, name)]
    if isinstance(owner, ModuleType):
        modules = [one for key, one in sys.modules.items() if key.partition(".")[0] in OURS and one is not owner]
        found += [(one, key) for one in modules for key, value in list(vars(one).items()) if value is original]
    return found


def _describe(value: Any) -> Any:
    if isinstance(value, Tensor):  # noise levels and times come one for each row: by their values
        return list(value.shape) if value.ndim > 1 else [float(one) for one in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else type(value).__name__
