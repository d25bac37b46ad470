"""One clip from files to file: everything is checked first, then weights are loaded, frames drawn and written."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import motion
from motion.errors import MotionError
from motion.hosts.standalone import lora
from motion.library import short_hash
from motion.settings import Clip, infotext
from motion.video.loop import played
from motion.video.write import check_destination, check_rate, write


@dataclass(frozen=True)
class Job:
    """A clip with the files it is made from and goes to. Checked on construction, before anything is opened.

    Raises MotionError naming the file, folder, device or rate that cannot be.
    """

    clip: Clip
    checkpoint: Path
    module: Path | None
    out: str
    loras: tuple[lora.Lora, ...] = ()
    device: str = "auto"
    dtype: str = "auto"
    work: Path | None = None

    def __post_init__(self) -> None:
        check_rate(check_destination(self.out), self.clip.fps)
        if not self.checkpoint.exists():
            raise MotionError(
                f"checkpoint {self.checkpoint} does not exist: give a checkpoint file or diffusers folder"
            )
        if self.module is not None and not self.module.is_file():
            raise MotionError(f"motion module {self.module} does not exist: give a motion module file")
        # Imported late: what can be refused without torch is refused at once.
        from motion.hosts.standalone.host import device_of, dtype_of

        dtype_of(self.dtype, device_of(self.device))

    def run(self, progress: Any = None) -> dict[str, Any]:
        """Draw and write the clip; the report names `path seed seconds parameters` and the clip's measures."""
        from diffusers.utils import logging as diffusers_logging

        from motion.hosts.standalone.host import Standalone, windows_of
        from motion.hosts.standalone.work import Work, seeded

        diffusers_logging.set_verbosity_error()  # its remarks would stand between the user and the progress bar

        start = time.perf_counter()
        module = motion.load(self.module) if self.module is not None else None
        windows_of(self.clip, module)
        host = Standalone.open(self.checkpoint, self.device, self.dtype)
        place = {"device": str(host.device), "dtype": str(host.dtype).removeprefix("torch.")}
        provenance = self._provenance()
        asked = infotext(self.clip, {**provenance, **place})
        work = Work.of(self.work, self.clip, asked) if self.work is not None else None
        clip = seeded(self.clip, work)
        parameters = infotext(clip, provenance)
        frames = host.stream(clip, module, progress, self.loras, work)
        write((frame.repeat(clip.zoom, 0).repeat(clip.zoom, 1) for frame in frames), self.out, clip.fps, parameters)
        if work is not None:
            work.finish()
        report = {"path": self.out, "frames": len(played(clip.frames, clip.loop)), "fps": clip.fps}
        report |= {"width": clip.size.width * clip.zoom, "height": clip.size.height * clip.zoom, "seed": clip.seed}
        return {**report, **place, "seconds": round(time.perf_counter() - start, 2), "parameters": parameters}

    def _provenance(self) -> dict[str, str]:
        """Names and hashes of the model files, under the keys the WebUI writes."""
        hashed = short_hash(self.checkpoint) if self.checkpoint.is_file() else ""  # a diffusers folder has none
        extra = {"Model hash": hashed, "Model": self.checkpoint.stem}
        if self.module is not None:
            extra |= {"Motion module hash": short_hash(self.module), "Motion module": self.module.stem}
        loras = ", ".join(f"{file.path.stem}: {file.weight:g}" for file in self.loras)
        return {**extra, "LoRA": loras, "Version": f"motion {motion.__version__}"}
