"""What a clip will take: calls of the UNet, time by that of the last clip, memory by the host's own estimate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from motion.hosts.webui.backends.detect import host
from motion.sampling.windows import Windows
from motion.settings.settings import Movement
from motion.techniques.ddim_inversion import EVALUATIONS, INVERTED

EXACT = 100_000
"""Frames times steps up to which windows are counted step by step; beyond, those of the first step stand for all."""
GIGABYTE = 1e9
_seconds: list[float] = []
"""How long the last clip took for a pixel of one image in one call, since the WebUI was started."""


@dataclass(frozen=True)
class Cost:
    """``calls`` of the UNet for ``frames`` frames each, with ``prompts`` images a frame, ``width`` x ``height``."""

    calls: int
    frames: int
    prompts: int
    width: int
    height: int

    @classmethod
    def of(
        cls, settings: Movement, windows: Windows, steps: int, cfg: float, width: int, height: int, clips: int
    ) -> Cost:
        """That of so many ``clips`` of these settings."""
        together = windows.apart
        calls = _windows(windows, steps) if together else steps
        frames = windows.size if together else windows.frames
        runs = settings.freeinit + EVALUATIONS * (settings.noise == INVERTED)  # which is found on the way back
        return cls(calls * runs * clips, frames, 2 if cfg > 1 else 1, width, height)

    @property
    def pixels(self) -> float:
        """All that the UNet computes."""
        return float(self.calls) * self.frames * self.prompts * self.width * self.height

    def remember(self, seconds: float) -> None:
        """Let the clip that took this long be the measure of others."""
        _seconds[:] = [seconds / self.pixels]

    def describe(self) -> str:
        """One line."""
        images = f" ({self.frames * self.prompts} images with guidance)" if self.prompts > 1 else ""
        parts = [f"{self.calls} calls of the UNet for {self.frames} frames each{images}"]
        if _seconds:
            parts.append(f"about {_duration(_seconds[0] * self.pixels)}, as fast as the last clip")
        memory = host().memory(self.frames * self.prompts, self.width, self.height)
        if memory is not None:
            parts.append(f"{memory / GIGABYTE:.1f} GB of memory beside the models")
        return "; ".join(parts) + "."


def _windows(windows: Windows, steps: int) -> int:
    if windows.frames * steps > EXACT:
        return steps * len(windows.at(0, 1.0))
    return sum(len(windows.at(step, 1 - step / steps)) for step in range(steps))


def of_job(p: Any, job: Any) -> Cost:
    """That of what the host has drawn of a job."""
    windows = job.sampling.arrangement.windows
    return Cost.of(job.tab, windows, p.steps, p.cfg_scale, p.width, p.height, max(job.done, 1))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
