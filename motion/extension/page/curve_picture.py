"""A small picture of a curve: its values over frames, at the beginning, in the middle and at the end of sampling."""

from __future__ import annotations

from motion.fields.curve import Curve, short

WIDTH, HEIGHT, LEFT, TOP = 320, 56, 36, 6
"""Of the picture and of its margins, in units of its own."""
POINTS = 160
"""Frames that are drawn at most."""
WAYS = {0.0: 1.0, 0.5: 0.6, 1.0: 0.3}
"""Parts of the way through sampling that are drawn where a curve changes over it, and how opaque."""


def drawing(curve: Curve, frames: int) -> str:
    """The curve in a clip of ``frames`` as an SVG; a curve over steps alone lies over these.

    Raises MotionError for keys that are not in the clip. The line has the page's own colour.
    """
    if curve.over_steps and len({*curve.at(frames)}) == 1:
        lines = {1.0: [curve.at(1, at / (POINTS - 1))[0] for at in range(POINTS)]}
        ends = "@0", "@1"
    else:
        shown = [round(at * (frames - 1) / (POINTS - 1)) for at in range(POINTS)] if frames > POINTS else range(frames)
        ways = WAYS if curve.over_steps else {0.0: 1.0}
        values = {opaque: curve.at(frames, way) for way, opaque in ways.items()}
        lines = {opaque: [line[frame] for frame in shown] for opaque, line in values.items()}
        ends = "0", str(frames - 1)
    low, high = min(map(min, lines.values())), max(map(max, lines.values()))
    drawn = "".join(_line(line, low, high, opaque) for opaque, line in lines.items())
    marks = [
        _text(LEFT - 4, TOP + 8, "end", short(round(high, 3))),
        _text(LEFT - 4, HEIGHT - 14, "end", short(round(low, 3))),
        _text(LEFT, HEIGHT, "start", ends[0]),
        _text(WIDTH, HEIGHT, "end", ends[1]),
    ]
    return (
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT + 2}' xmlns='http://www.w3.org/2000/svg' role='img' fill='currentColor' "
        f"font-size='10' style='width: 100%; max-width: 24em; height: auto'>{drawn}{''.join(marks)}</svg>"
    )


def _line(values: list[float], low: float, high: float, opaque: float) -> str:
    across, down = WIDTH - LEFT, HEIGHT - 16 - TOP
    steps, span = max(len(values) - 1, 1), (high - low) or 1.0
    points = [
        f"{LEFT + across * at / steps:.1f},{TOP + down * (high - value) / span:.1f}" for at, value in enumerate(values)
    ]
    points += [f"{WIDTH}.0,{points[0].partition(',')[2]}"] * (len(points) == 1)
    return (
        f"<polyline points='{' '.join(points)}' fill='none' stroke='currentColor' stroke-width='1.5' "
        f"opacity='{opaque}'/>"
    )


def _text(x: float, y: float, anchor: str, text: str) -> str:
    return f"<text x='{x}' y='{y}' text-anchor='{anchor}'>{text}</text>"
