"""A small picture of context windows: which frames are taken together in which step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from motion.sampling.windows import Window, Windows

FRAMES, STEPS = 256, 12
"""As many are drawn, from the first on; a clip may have thousands of frames."""
WIDTH, LEFT, BOTTOM = 640, 44, 16
"""Of the picture, and of the margins that numbers stand in, in units of its own; 12 of them are a line of text."""
LANE, GAP = 6, 8
"""Height of a bar, and the space between two steps."""
HUE = 137.5
"""Degrees from one window's colour to the next: neighbours differ however many there are."""


def drawing(windows: Windows, steps: int) -> str:
    """The windows of the first of ``steps`` steps as an SVG: frames from left to right, steps from top to bottom.

    Windows of a step that share frames lie in lanes below one another; those that do not may share a lane. Bars are of
    a middling lightness and text has the page's own colour, so that both can be read in a light and a dark one. A
    step's place in the noise schedule is taken from its number, as if they were evenly spaced.
    """
    shown = min(windows.frames, FRAMES)
    rows, top = [], GAP
    for step in range(min(steps, STEPS)):
        lanes = _lanes([_visible(window, shown) for window in windows.at(step, 1 - step / steps)])
        bars = [_bar(run, top + LANE * at, number, shown) for number, at, runs in lanes for run in runs]
        height = LANE * (1 + max(at for _, at, _ in lanes))
        label = _text(LEFT - 6, top + height, "end", step + 1)
        rows.append(f"<g><title>step {step + 1}</title>{label}{''.join(bars)}</g>")
        top += height + GAP
    ends = [_text(LEFT, top + 10, "start", 0), _text(WIDTH, top + 10, "end", shown - 1)]
    return (
        f"<svg viewBox='0 0 {WIDTH} {top + BOTTOM}' xmlns='http://www.w3.org/2000/svg' role='img' fill='currentColor' "
        f"font-size='10' style='width: 100%; max-width: 48em; height: auto'>{''.join([*rows, *ends])}</svg>"
    )


def describe_windows(windows: Windows, steps: int) -> str:
    """The sentence above the picture."""
    views = f", each in views of {windows.reach}" if windows.reach < windows.size else ""
    if not windows.cut:
        return f"All {windows.frames} frames move together in each step{views}."
    sentence = f"{windows.frames} frames in windows of {windows.size}{views}."
    if windows.frames > FRAMES or steps > STEPS:
        sentence += f" Shown: frames 0 to {min(windows.frames, FRAMES) - 1}, steps 1 to {min(steps, STEPS)}."
    return sentence


def _visible(window: Window, shown: int) -> list[int]:
    return sorted(frame for frame in window if frame < shown)


def _lanes(windows: Sequence[list[int]]) -> list[tuple[int, int, list[range]]]:
    """Of each window that has frames: its number, its lane and its frames as runs."""
    taken: list[set[int]] = []
    found = []
    for number, frames in enumerate(windows):
        if frames:
            at = next((at for at, lane in enumerate(taken) if lane.isdisjoint(frames)), len(taken))
            taken += [set()] * (at == len(taken))
            taken[at] = taken[at] | set(frames)
            found.append((number, at, list(_runs(frames))))
    return found


def _runs(frames: Sequence[int]) -> Iterator[range]:
    """The frames as stretches without a hole."""
    start = frames[0]
    for frame, following in zip(frames, [*frames[1:], None], strict=True):
        if following != frame + 1:
            yield range(start, frame + 1)
            start = following or 0


def _bar(run: range, y: int, number: int, shown: int) -> str:
    scale = (WIDTH - LEFT) / shown
    x, width = LEFT + run.start * scale, len(run) * scale
    colour = f"hsl({number * HUE % 360:.0f}, 55%, 55%)"
    return f"<rect x='{x:.2f}' y='{y}' width='{width:.2f}' height='{LANE - 1}' fill='{colour}'/>"


def _text(x: int, y: int, anchor: str, number: int) -> str:
    return f"<text x='{x}' y='{y}' text-anchor='{anchor}'>{number}</text>"
