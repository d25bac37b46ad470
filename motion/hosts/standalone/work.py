"""A folder that keeps how far a clip has come, so that a job that was killed goes on at its last step."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from motion.errors import MotionError
from motion.sampling.arrangement import Arrangement
from motion.sampling.sharing import Sharing
from motion.settings.settings import Clip
from sparsectrl import Effect

FILE = "motion-state.pt"
PASSES = 2
"""Of a clip at most."""

Progress = Callable[[int, int], None]
"""Called with (steps done, steps): with 0 when sampling begins, then after each step."""


def part_of(progress: Progress | None, number: int, count: int) -> Progress | None:
    """The progress of one of so many parts, which have as many steps each."""
    return progress and (lambda done, steps: progress(number * steps + done, count * steps))


@dataclass
class SamplingRun:
    """All that the next step of sampling depends on: `done` steps of a round, `drawn` rounds before it."""

    scheduler: Any
    arrangement: Arrangement
    generators: list[torch.Generator]
    noise: Tensor | None
    """What the round began with, where another one follows from it (FreeInit)."""
    latents: Tensor
    drawn: int = 0
    done: int = 0
    effects: list[Effect] = field(default_factory=list)

    def state(self) -> dict[str, Any]:
        """The run as tensors and plain values."""
        return {
            "scheduler": {name: value for name, value in vars(self.scheduler).items() if _is_plain(value)},
            "step": self.arrangement.step,
            "generators": [generator.get_state() for generator in dict.fromkeys(self.generators)],
            "effects": [effect.counted() for effect in self.effects],
            **{name: getattr(self, name) for name in ("noise", "latents", "drawn", "done")},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state of the same clip."""
        vars(self.scheduler).update(state["scheduler"])
        self.arrangement.step = state["step"]
        for generator, kept in zip(dict.fromkeys(self.generators), state["generators"], strict=True):
            generator.set_state(kept)
        for effect, counted in zip(self.effects, state["effects"], strict=True):
            effect.go_on(*counted)
        for name in ("noise", "latents", "drawn", "done"):
            setattr(self, name, state[name])

    def agree(self, sharing: Sharing) -> None:
        """Begin or go on where the first of the processes that draw the clip does."""
        if sharing.size > 1:
            self.restore(sharing.of_first(self.state()))

    def count_together(self, sharing: Sharing) -> None:
        """Let the effects of the first process be those of all; the others count from 0 again."""
        if sharing.size == 1 or not self.effects:
            return
        of_all = sharing.gather([effect.counted() for effect in self.effects])
        for effect, counted in zip(self.effects, zip(*of_all, strict=True), strict=True):
            passes, added, met = map(sum, zip(*counted, strict=True)) if sharing.leads else (0, 0.0, 0.0)
            effect.go_on(passes, added, met)


@dataclass(frozen=True)
class Work:
    """The state of `job`, a text that says what is drawn and from which files, in `folder`."""

    folder: Path
    job: str
    seed: int
    part: int = 0
    """The pass, from 0 on; each has a state of its own."""

    @classmethod
    def of(cls, folder: Path, clip: Clip, job: str) -> Work:
        """The work on `clip`, begun or not; a random seed is the one that it was begun with.

        Raises MotionError if the folder keeps another job's state or cannot be used.
        """
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise MotionError(f"the work folder {folder} cannot be made ({error}): choose another") from error
        begun = cls(folder, job, 0)._read()
        if begun is not None and begun["job"] != job:
            raise MotionError(f"the work folder {folder} keeps another clip: choose another, or remove {FILE}")
        return cls(folder, job, clip.with_seed().seed if begun is None else begun["seed"])

    @property
    def _files(self) -> tuple[Path, Path]:
        """The state's file, and what it is written as."""
        file = self.folder / FILE.replace(".", f"{self.part or ''}.")
        return file, file.with_name(f"{file.name}.part")

    def resume(self, run: SamplingRun) -> None:
        """Bring the run to where it was kept, if it was."""
        if (kept := self._read()) is not None:
            run.restore(kept["run"])

    def keep(self, run: SamplingRun) -> None:
        """Keep the run; whatever happens meanwhile, the file is this state or the one before, and whole."""
        file, part = self._files
        with part.open("wb") as opened:
            torch.save({"job": self.job, "seed": self.seed, "run": run.state()}, opened)
            opened.flush()
            os.fsync(opened.fileno())
        part.replace(file)

    def finish(self) -> None:
        """Forget the state, and the folder if nothing else is in it."""
        for file in [path for number in range(PASSES) for path in replace(self, part=number)._files]:
            file.unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _read(self) -> dict[str, Any] | None:
        kept_in, _ = self._files
        if not kept_in.is_file():
            return None
        try:
            kept: dict[str, Any] = torch.load(kept_in, weights_only=True)
            kept["job"], kept["seed"], kept["run"]
        except Exception as error:  # torch's own words for a damaged file are many
            raise MotionError(f"{kept_in} cannot be read ({error}): remove it to begin again") from error
        return kept


def seed_of_work(clip: Clip, work: Work | None) -> Clip:
    """The clip with its seed, the work's if there is one."""
    return clip.with_seed() if work is None else replace(clip, seed=work.seed)


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str, Tensor))
