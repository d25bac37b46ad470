"""Why jobs were refused: for the host's API, and for the browser tab that asked for the job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from motion.errors import MotionError
from motion.hosts.memory import is_out_of_memory
from motion.hosts.webui.backends.base import host_module

REFUSED, FAILED, FULL = 422, 500, 507
"""What the host's API answers: a request that cannot be done, what is not the request's fault, a disk without room."""
KEPT = 64
"""Jobs whose refusal is known."""
MOST_TOLD = 300
"""Characters of another library's words that are shown."""


class HostError(MotionError):
    """What the user can mend, but not by another request."""

    def __init__(self, sentence: str, status: int = FAILED) -> None:
        super().__init__(sentence)
        self.status = status


class Refused(MotionError):
    """What cannot be done, as the host's API answers it; some hosts' pages show another error and ask for this one."""

    _told: ClassVar[dict[str, tuple[str, int]]] = {}
    """Sentence and status by the id of the job, which the host's page has drawn at random."""

    def __init__(self, reason: BaseException) -> None:
        text = str(reason) if isinstance(reason, MotionError) else _sentence(reason)
        super().__init__(text)
        self.__cause__ = reason  # which the host writes into its log
        self.status_code = getattr(reason, "status", REFUSED if isinstance(reason, MotionError) else FAILED)
        self.detail = text
        job = host_module("progress").current_task
        if job:
            self._told[job] = text, self.status_code
            for forgotten in list(self._told)[:-KEPT]:
                del self._told[forgotten]

    @classmethod
    def sentence(cls, job: str) -> str:
        """Why the job with this id was refused; empty if it was not."""
        return cls._told.get(job, ("", REFUSED))[0]

    @classmethod
    def of_job(cls) -> Refused | None:
        """The refusal of the job in progress, which goes on if a script makes several of it."""
        told = cls._told.get(host_module("progress").current_task)
        return told and cls(HostError(*told))

    @classmethod
    def forget(cls) -> None:
        """A job begins, under an id that another may have had."""
        cls._told.pop(host_module("progress").current_task, None)


def _sentence(reason: BaseException) -> str:
    """What is said of an error that nobody has foreseen."""
    if is_out_of_memory(reason):
        return "there is not enough memory for this clip: close what else uses it, or choose smaller files"
    told = " ".join(str(reason).split())[:MOST_TOLD]
    return f"Motion cannot make this clip{f' ({told})' if told else ''}: the WebUI's log says where it ended"


@contextmanager
def refusals() -> Iterator[None]:
    """Within, what a user can mend is answered as such."""
    try:
        yield
    except Refused:
        raise
    except MotionError as error:
        raise Refused(error) from error
