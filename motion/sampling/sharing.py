"""Work that several processes share out: each does a part of it, and all have the whole, in one order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
U = TypeVar("U")


def _alone(value: Any) -> list[Any]:
    return [value]


@dataclass(frozen=True)
class Sharing:
    """The place of a process among ``size`` that do the same work at once; by itself it does all of it.

    ``gather`` gives every process what each of them has, in the order of their ranks. All must call it as often, so
    whatever leads to a call has to be the same in all of them. What it is given is pickled: tensors on the CPU.
    """

    rank: int = 0
    size: int = 1
    gather: Callable[[Any], list[Any]] = _alone

    @property
    def leads(self) -> bool:
        """Whether this is the first process, the one that reads, writes and tells."""
        return self.rank == 0

    def of_first(self, value: T | None) -> T:
        """What the first process has, in all of them."""
        first: T = self.gather(value if self.leads else None)[0]
        return first

    def map(self, work: Callable[[T], U], items: Sequence[T]) -> Iterator[U]:
        """``work`` of each item, in order, in every process, each of which does every ``size``-th."""
        for at in range(0, len(items), self.size):
            yield from self._turn(work, items[at : at + self.size])

    def map_for_first(self, work: Callable[[T], U], items: Sequence[T]) -> Iterator[U]:
        """`map` for the first process alone, at whatever time: the others `serve` meanwhile."""
        for at in range(0, len(items), self.size):
            yield from self._turn(work, self.of_first(items[at : at + self.size]))

    def serve(self, work: Callable[[T], Any]) -> None:
        """Do a part of what the first process maps, until it says that this was all (`end`)."""
        asked: Sequence[T] = self.of_first(None)
        while asked:
            self._turn(work, asked)
            asked = self.of_first(None)

    def end(self) -> None:
        """The first process has what it wants of those that `serve`."""
        self.of_first([])

    def _turn(self, work: Callable[[T], U], items: Sequence[T]) -> list[U]:
        """``work`` of as many items as there are processes, or fewer."""
        done = work(items[self.rank]) if self.rank < len(items) else None
        return self.gather(done)[: len(items)]


ALONE = Sharing()
