"""What the folders of motion models hold for the loaded checkpoint, and what the page says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from motion.errors import MotionError
from motion.extension.models import FILES, folders, library
from motion.extension.page.notes import alarm, note
from motion.hosts.webui.base import loaded_base
from motion.models.motion.architecture import FAMILIES
from motion.weights.kinds import SPARSECTRL

REFRESH = "\U0001f504"
ADAPTER = "{module} was trained beside a domain adapter: {adapter} goes with it."
NO_FILES = "No motion module found: put one into {folder} and press {button}."


@dataclass(frozen=True)
class Offered:
    """What lies in the folders: names by the field that takes them, modules that fit the loaded checkpoint, and why
    others do not."""

    of_kind: Mapping[str, Sequence[str]]
    fitting: Sequence[str]
    misfits: Mapping[str, str]
    beside_adapter: Sequence[str]
    """Modules that were trained beside a domain adapter."""

    @classmethod
    def find(cls) -> Offered:
        """Raises MotionError where no checkpoint is loaded that can be moved."""
        base, files = loaded_base(), library()
        described = {entry.name: files.describe(entry) for entry in files.entries()}
        of_kind = {key: [name for name in described if described[name].kind in kinds] for key, kinds in FILES.items()}
        elsewhere = {*of_kind["loras"], *of_kind["adapter"]}
        others = {name for name in described if name not in elsewhere and described[name].kind != SPARSECTRL}
        reasons = {name: files.misfit(described[name], base) for name in described if name in others}
        fitting = [name for name, reason in reasons.items() if reason is None]
        misfits = {name: reason for name, reason in reasons.items() if reason is not None}
        return cls(of_kind, fitting, misfits, [m for m in fitting if FAMILIES[str(described[m].family)].adapter])

    def notes(self, module: str, adapter: str) -> str:
        """A line for each module that does not fit, and one for the adapter that is missed."""
        lines = [f"{name}: {reason}" for name, reason in self.misfits.items()]
        if not (self.misfits or self.fitting):
            lines = [NO_FILES.format(folder=folders()[0], button=REFRESH)]
        if module in self.beside_adapter and not adapter and self.of_kind["adapter"]:
            lines.append(ADAPTER.format(module=module, adapter=self.of_kind["adapter"][0]))
        return "".join(map(note, lines))


def offer(chosen: str, adapter: str) -> tuple[Any, str, Any, Any]:
    """The modules that fit the loaded checkpoint, what is to be said of them, the adapters and the motion LoRAs."""
    try:
        found = Offered.find()
    except MotionError as error:
        return gr.update(choices=[]), alarm(error), gr.update(), gr.update()
    chosen = chosen if chosen in found.fitting else next(iter(found.fitting), "")
    modules = gr.update(choices=found.fitting, value=chosen)
    adapters, loras = gr.update(choices=["", *found.of_kind["adapter"]]), gr.update(choices=found.of_kind["loras"])
    return modules, found.notes(chosen, adapter), adapters, loras


def notes(chosen: str, adapter: str) -> str:
    """What is to be said of the files when others are chosen."""
    try:
        return Offered.find().notes(chosen, adapter)
    except MotionError as error:
        return alarm(error)
