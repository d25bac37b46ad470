"""A clip that goes on in a WebUI: each round of drawing is one batch of the host's, given the end of the one before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from motion.fields.table import Size
from motion.hosts.continuation import Continuation
from motion.hosts.controls import Pixels
from motion.hosts.finish import shown_pixels
from motion.hosts.webui.key_frames import KeyFrameControls


@dataclass
class Continued:
    """The clip, of which each round draws ``frames`` in ``size``.

    Raises MotionError if it has fewer frames than are given, and if it is to be no longer than it is.
    """

    clip: Continuation
    frames: int
    size: Size
    new: Sequence[int] = field(init=False)
    """How many frames each round adds."""
    have: int = field(init=False)
    """How many there are besides."""
    _end: list[Pixels] = field(init=False)

    def __post_init__(self) -> None:
        self._end = self.clip.end(self.size)
        self.new = list(self.clip.rounds(self.frames))
        self.have = self.clip.have()

    @property
    def parts(self) -> list[range]:
        """The frames that each round adds, by their numbers in it."""
        return [range(self.clip.given, self.clip.given + new) for new in self.new]

    def images(self) -> dict[int, Pixels]:
        """What the first round is given, by frame. Raises MotionError if the clip that it leads over to has fewer."""
        return self.clip.images(self._end, self.frames, self.size)

    def round_ends(self, rounds: int, images: Sequence[Tensor], keys: KeyFrameControls) -> None:
        """Let ``keys`` be what the next of the host's batches is given, of which ``rounds`` have ended: the last
        ``images [3, h, w]`` from 0 to 1, or the first round's where another clip begins."""
        if rounds % len(self.new) == 0:
            keys.show(self.images())
            return
        end = [shown_pixels(image) for image in images[-self.clip.given :]]
        keys.show(self.clip.images(end, self.frames, self.size))

    def whole(self, new: Pixels) -> Iterator[Pixels]:
        """The clip, the ``new`` frames ``[n, h, w, 3]`` behind it, and what it leads over to, in their size."""
        height, width = new.shape[1:3]
        return self.clip.whole(new, Size(width, height))
