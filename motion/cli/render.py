"""One clip from files to file: everything is checked first, then weights are loaded, frames drawn and written."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import motion
from motion.fields.weighted import Weighted
from motion.hosts.controls import Control, describe_controls
from motion.hosts.source import Source
from motion.hosts.standalone.networks import key_frames, lora
from motion.settings.parameters import infotext
from motion.settings.settings import Clip
from motion.settings.tab import NO_MODULE, TAB_FIELDS
from motion.video.destination import check_destination, check_frame_size, check_rate
from motion.video.loop import play_order
from motion.video.write import Rewindable, write
from motion.weights.library import short_hash
from motion.weights.paths import OR_FOLDER, check_file

if TYPE_CHECKING:  # at run time torch comes last
    from motion.hosts.standalone.networks.image_prompt import ImagePrompt
    from motion.sampling.lora import WeightedLora


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
    motion_loras: tuple[lora.Lora, ...] = ()
    adapter: Path | None = None
    device: str = "auto"
    dtype: str = "auto"
    controls: tuple[Control, ...] = ()
    work: Path | None = None
    vae: Path | None = None
    prediction: str = "auto"
    image_prompt: ImagePrompt | None = None
    embeddings: tuple[Path, ...] = ()
    source: Source | None = None

    def __post_init__(self) -> None:
        encode = check_destination(self.out)
        check_rate(encode, self.clip.fps)
        check_frame_size(encode, *(side * self.clip.zoom for side in self.clip.size))
        check_file(self.checkpoint, "checkpoint", OR_FOLDER, folders=True)
        for what, file in (("motion module", self.module), ("domain adapter", self.adapter), ("VAE", self.vae)):
            if file is not None:
                check_file(file, what)
        for file in self.embeddings:
            check_file(file, "embedding")
        # Imported late: what can be refused without torch is refused at once.
        from motion.hosts.standalone.device import device_of, dtype_of

        dtype_of(self.dtype, device_of(self.device))

    def run(self, progress: Any = None) -> dict[str, Any]:
        """Draw and write the clip; the report names `path seed seconds parameters` and the clip's measures."""
        from diffusers.utils import logging as diffusers_logging

        from motion.hosts.standalone.host import Standalone, windows_of
        from motion.hosts.standalone.networks.networks import Networks
        from motion.hosts.standalone.samplers import schedule_type
        from motion.hosts.standalone.work import Work, seed_of_work
        from motion.weights.formats.embeddings import open_embedding

        diffusers_logging.set_verbosity_error()  # its remarks would stand between the user and the progress bar

        start, clip = time.perf_counter(), self.clip
        family = None if clip.family == "auto" else clip.family
        module = motion.load(self.module, family) if self.module is not None else None
        windows_of(clip, module)
        attached = self._attached()
        if clip.trigger_words:
            clip = replace(clip, prompt=motion.lora.add_trigger_words(clip.prompt, attached, clip.frames))
        host = Standalone.open(self.checkpoint, self.device, self.dtype, self.vae, self.prediction)
        place = {"device": str(host.device), "dtype": str(host.dtype).removeprefix("torch.")}
        provenance = {**self._provenance(), "Schedule type": schedule_type(clip, host.parts.parameterization)}
        asked = infotext(clip, {**provenance, **place, "Key images": key_frames.digest(self.controls)})
        work = Work.of(self.work, clip, asked) if self.work is not None else None
        clip = seed_of_work(clip, work)
        embeddings = tuple(map(open_embedding, self.embeddings))
        networks = Networks(module, self.loras, attached, self.controls, self.image_prompt, embeddings)
        frames = host.stream(clip, networks, progress, work, self.source)
        parameters = infotext(clip, {**provenance, **describe_controls(self.controls)})
        zoomed = Rewindable(lambda: (frame.repeat(clip.zoom, 0).repeat(clip.zoom, 1) for frame in frames))
        write(zoomed, self.out, clip.fps, parameters)
        if work is not None:
            work.finish()
        report = {"path": self.out, "frames": len(play_order(clip.frames, clip.loop)), "fps": clip.fps}
        report |= {"width": clip.size.width * clip.zoom, "height": clip.size.height * clip.zoom, "seed": clip.seed}
        report |= {**place, "seconds": round(time.perf_counter() - start, 2), "parameters": parameters}
        return {**report, "sparsectrl": describe_controls(self.controls)}

    def _attached(self) -> list[WeightedLora]:
        """The motion LoRAs and the adapter, each with its weight."""
        loras = [(motion.lora.load(file.path, "motion"), file.weight) for file in self.motion_loras]
        adapters = [(motion.lora.load(file, "image"), self.clip.adapter_scale) for file in [self.adapter] if file]
        return [*loras, *adapters]

    def _provenance(self) -> dict[str, str]:
        """Names and hashes of the model files, under the keys the WebUI writes."""
        hashed = short_hash(self.checkpoint) if self.checkpoint.is_file() else ""  # a diffusers folder has none
        extra = {"Model hash": hashed, "Model": self.checkpoint.stem}
        if self.module is not None:
            extra |= {"Motion module hash": short_hash(self.module), "Motion module": self.module.stem}
        elif self.clip.zero_shot:
            extra |= {"Motion module": NO_MODULE}
        if self.vae is not None:
            extra |= {"VAE hash": short_hash(self.vae), "VAE": self.vae.name}
        if self.prediction != "auto":
            extra |= {"Prediction": self.prediction}
        if self.source is not None:
            extra |= {"Source": str(self.source)}
        if self.image_prompt is not None:
            shown, file = str(self.image_prompt), self.image_prompt.file
            extra |= {"IP-Adapter hash": short_hash(file), "IP-Adapter": shown}
        if self.adapter is not None:
            extra |= {TAB_FIELDS["adapter"].key: self.adapter.stem}
        row = TAB_FIELDS["loras"]
        extra[row.key] = row.write(tuple(Weighted(file.path.stem, file.weight) for file in self.motion_loras))
        loras = ", ".join(map(str, self.loras))
        words = ", ".join(f"{file.stem}: {short_hash(file)}" for file in self.embeddings)
        hashes = "; ".join(short_hash(control.file) for control in self.controls if control.file)
        return {
            **extra,
            "SparseCtrl hash": hashes,
            "LoRA": loras,
            "TI hashes": words,
            "Version": f"motion {motion.__version__}",
        }
