"""What the folders of motion models hold for the loaded checkpoint, and what the page says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from motion.errors import MotionError
from motion.extension.models import FILES, last_module, library, lora_files
from motion.extension.page.notes import alarm, folded, note
from motion.hosts.webui.backends.base import loaded_base
from motion.models.motion.architecture import FAMILIES
from motion.settings.tab import NO_MODULE
from motion.weights.kinds import SPARSECTRL
from motion.weights.library import BASES, Description

ADAPTER = "Add {adapter}, which belongs to this module"
NO_FILES = "There is no motion module yet: get one below, or try the demo models."
ZERO_SHOT = "Without a motion module the picture is moved as a whole (Text2Video-Zero)."
NONE_FITS = "None of the motion modules fits the loaded checkpoint."


@dataclass(frozen=True)
class Offered:
    """What lies in the folders: names by the field that takes them, modules that fit the loaded checkpoint, and why
    others do not."""

    of_kind: Mapping[str, Sequence[str]]
    fitting: Mapping[str, Description]
    misfits: Mapping[str, str]
    base: str | None

    @classmethod
    def find(cls) -> Offered:
        """Raises MotionError where no checkpoint is loaded that can be moved."""
        base, files = loaded_base(), library()
        described = {entry.name: files.describe(entry) for entry in files.entries()}
        loras = {*FILES["loras"], *FILES["adapter"], SPARSECTRL}
        others = {name: found for name, found in described.items() if found.kind not in loras}
        reasons = {name: files.misfit(found, base) for name, found in others.items()}
        fitting = {name: others[name] for name, reason in reasons.items() if reason is None}
        misfits = {name: reason for name, reason in reasons.items() if reason is not None}
        return cls({key: lora_files(key) for key in ("loras", "adapter")}, fitting, misfits, base)

    def notes(self, module: str) -> str:
        """What the module is, and a line that names the files that do not fit."""
        lines = [note(self._facts(self.fitting[module]))] if module in self.fitting else []
        if not self.fitting:
            lines = [note(NONE_FITS if self.misfits else NO_FILES)]
        if module == NO_MODULE:
            lines.append(note(ZERO_SHOT))
        if self.misfits:
            count = len(self.misfits)
            does = "1 file does not fit" if count == 1 else f"{count} files do not fit"
            lines.append(folded(f"{does} the loaded checkpoint", self.misfits))
        return "".join(lines)

    def _facts(self, module: Description) -> str:
        family, base = FAMILIES[str(module.family)], BASES.get(str(module.base), str(module.base))
        fits = ", fits the loaded checkpoint" if self.base else ""
        return (
            f"{family.title} for {base}: trained on {family.frames} frames, moves up to {module.frames} together{fits}."
        )

    def missed(self, module: str, adapter: str) -> Any:
        """The button for the adapter that the module was trained beside, in sight while it is not chosen."""
        beside = module in self.fitting and FAMILIES[str(self.fitting[module].family)].adapter
        if not beside or adapter or not self.of_kind["adapter"]:
            return gr.update(visible=False)
        return gr.update(value=ADAPTER.format(adapter=self.of_kind["adapter"][0]), visible=True)


def offer() -> tuple[Any, ...]:
    """The modules that fit the loaded checkpoint, the adapters, the motion LoRAs, and the downloads, open where no
    module fits."""
    try:
        found = Offered.find()
    except MotionError:
        return gr.update(choices=[]), gr.update(), gr.update(), gr.update()
    modules = gr.update(choices=[*found.fitting, NO_MODULE])
    adapters = gr.update(choices=["", *found.of_kind["adapter"]])
    loras = gr.update(choices=list(found.of_kind["loras"]), value=None)
    return modules, adapters, loras, gr.update(open=not found.fitting)


def settle(chosen: str, adapter: str) -> tuple[Any, ...]:
    """The chosen module, or the usual one in place of what is not offered, and `notes` on it."""
    try:
        found = Offered.find()
    except MotionError as error:
        return gr.update(), alarm(error), gr.update(visible=False)
    wanted = (chosen, last_module(found.base), *found.fitting)
    module = next((name for name in wanted if name in (*found.fitting, NO_MODULE)), "")
    put = gr.update() if module == chosen else gr.update(value=module)
    return put, found.notes(module), found.missed(module, adapter)


def notes(chosen: str, adapter: str) -> tuple[str, Any]:
    """What is to be said of the files, and the adapter's button, when others are chosen."""
    try:
        found = Offered.find()
    except MotionError as error:
        return alarm(error), gr.update(visible=False)
    return found.notes(chosen), found.missed(chosen, adapter)


def missed_adapter() -> str:
    """The adapter that the button adds."""
    return next(iter(lora_files("adapter")), "")
