"""Which frames each frame of a clip reads, by mode or as a table of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from motion.errors import MotionError
from motion.sampling.arrangement import Arrangement
from motion.sampling.windows import Window

Table = Sequence[Sequence[int]]
"""For each frame of a clip the frames whose keys and values it reads."""
TableOf = Callable[[Window], Table]
"""The frames that those computed together read, by their numbers in the clip."""

MODES: Mapping[str, TableOf] = {
    "first": lambda together: [(0,)] * len(together),
    "sparse-causal": lambda together: [(0, max(frame - 1, 0)) for frame in together],
    "full": lambda together: [together] * len(together),
    "style-aligned": lambda together: [(frame, 0) for frame in together],
}
"""The tables that need no numbers. "full" is of the frames that are computed together."""
NUMBERED = ("reference", "pair")
"""Those that do: of the first window, and of two frames."""


def table_of(mode: str | Table, frames: int, pair: tuple[int, int] | None, size: int) -> TableOf:
    """That of a mode in a clip of ``frames``, whose windows have ``size``; see `motion.sampling.cross_frame.attach`."""
    if isinstance(mode, str) and mode in MODES and pair is None:
        return MODES[mode]
    if isinstance(mode, str):
        if mode not in NUMBERED:
            raise MotionError(f"cross-frame attention is {mode}: choose one of {', '.join((*MODES, *NUMBERED))}")
        reference = [(frame, frame % size) for frame in range(frames)]
        mode = reference if mode == "reference" else [pair or (0, frames - 1)] * frames
    table = [[frame + frames if frame < 0 else frame for frame in read] for read in mode]
    if len(table) != frames:
        raise MotionError(f"the table has {len(table)} frames and the clip {frames}: give the frames that each reads")
    odd = next((read for read in table if not read or not all(0 <= frame < frames for frame in read)), None)
    if odd is not None or len({*map(len, table)}) > 1:
        raise MotionError(f"a frame cannot read the frames {odd}: give each as many of 0 to {frames - 1}")
    return lambda together: [table[frame] for frame in together]


def between_keys(arrangement: Arrangement) -> TableOf:
    """ControlVideo's hierarchical sampler: key frames read each other; what lies between two reads the first of these
    and the last of its own, for the authors' network reads its first and last input and has both key frames in front.
    """

    def table(together: Window) -> Table:
        window = arrangement.window
        ends = arrangement.windows.ends(window)
        return [(ends[0], window[-1]) if ends else together] * len(together)

    return table
