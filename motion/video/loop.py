"""In which order the frames that were drawn are played."""

from __future__ import annotations


def play_order(frames: int, loop: str) -> list[int]:
    """Frame numbers in the order of the clip: for "ping-pong" there and back, the ends once, so that it repeats."""
    there = list(range(frames))
    return there + there[-2:0:-1] if loop == "ping-pong" else there
