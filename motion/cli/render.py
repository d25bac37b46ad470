"""One clip from files to file: everything is checked first, then weights are loaded, frames drawn and written."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import motion
from motion.errors import MotionError
from motion.fields.curve_text import read_curve
from motion.fields.weighted import Weighted
from motion.hosts.continuation import Continuation
from motion.hosts.controls import Control, describe_controls
from motion.hosts.sounds import settle_curve, settle_sounds
from motion.hosts.source import Source
from motion.hosts.standalone.networks import key_frames, lora
from motion.settings.layers import FurtherModule
from motion.settings.parameters import infotext
from motion.settings.settings import FIELDS, Clip
from motion.settings.tab import NO_MODULE, TAB_FIELDS
from motion.video.destination import check_destination, check_frame_size, check_rate
from motion.video.masks import read_masks
from motion.video.pictures import Frame
from motion.video.write import Rewindable, write
from motion.weights.library import short_hash
from motion.weights.paths import OR_FOLDER, check_file

if TYPE_CHECKING:  # at run time torch comes last
    from torch import Tensor

    from motion.hosts.standalone.host import Standalone
    from motion.hosts.standalone.networks.control_net import ControlClip
    from motion.hosts.standalone.networks.image_prompt import ImagePrompt
    from motion.hosts.standalone.networks.networks import Networks, Style
    from motion.hosts.standalone.work import Work
    from motion.models.motion.model import MotionModel
    from motion.sampling.lora import WeightedLora
    from motion.sampling.sharing import Sharing

_log = logging.getLogger(__name__)


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
    motion_loras: tuple[lora.VaryingFile, ...] = ()
    adapter: Path | None = None
    device: str = "auto"
    dtype: str = "auto"
    low_memory: bool = False
    controls: tuple[Control, ...] = ()
    work: Path | None = None
    vae: Path | None = None
    prediction: str = "auto"
    image_prompt: ImagePrompt | None = None
    embeddings: tuple[Path, ...] = ()
    source: Source | None = None
    continuation: Continuation | None = None
    one_shot: Path | None = None
    inverted: Source | None = None
    """The clip whose noise this one begins with."""
    control_clips: tuple[ControlClip, ...] = ()
    further: tuple[FurtherModule, ...] = ()
    """Motion modules that act beside the first, named by their files."""
    style: lora.VaryingFile | None = None
    """The checkpoint whose style the clip takes on."""
    regions: tuple[Path | None, ...] = ()
    """The masks of the parts of the prompt that AND joins, None for a part that counts everywhere."""

    def __post_init__(self) -> None:
        encode = check_destination(self.out)
        if self.continuation is not None:
            self.continuation.check(self.clip)
            if (self.work, self.source, self.inverted) != (None, None, None):
                raise MotionError(
                    "a clip that goes on is neither drawn anew nor kept step by step: leave out one of them"
                )
        check_rate(encode, self.clip.fps)
        settle_sounds(self.clip, FIELDS)
        for mask in filter(None, (self.clip.effect_mask, *(item.mask for item in self.further))):
            read_masks(Path(mask), "movement mask", self.clip.frames)
        for region in filter(None, self.regions):
            read_masks(region, "region mask", self.clip.frames)
        if self.further and self.module is None:
            raise MotionError("further motion modules go beside a first one: give it with --motion FILE")
        for item in self._further():
            read_curve(item.effect).placed(self.clip.frames)
        check_frame_size(encode, *(side * self.clip.zoom for side in self.clip.finished_size))
        check_file(self.checkpoint, "checkpoint", OR_FOLDER, folders=True)
        for what, file in (
            ("motion module", self.module),
            ("domain adapter", self.adapter),
            ("VAE", self.vae),
            ("Tune-A-Video file", self.one_shot),
        ):
            if file is not None:
                check_file(file, what)
        for file in self.embeddings:
            check_file(file, "embedding")
        # Imported late: what can be refused without torch is refused at once.
        from motion.hosts.standalone.device import device_of, dtype_of

        dtype_of(self.dtype, device_of(self.device))

    def run(self, progress: Any = None) -> dict[str, Any] | None:
        """Draw and write the clip; the report names `path seed seconds parameters` and the clip's measures.

        Of several processes that draw it together the first alone writes, is told of the progress and has a report.
        """
        from motion.hosts.standalone.device import device_of
        from motion.hosts.standalone.processes import share_work

        with share_work(device_of(self.device)) as sharing:
            if self.continuation is not None and sharing.size > 1:
                raise MotionError("a clip that goes on from another is drawn round by round: start one process alone")
            if self.clip.cache != "off" and sharing.size > 1:
                raise MotionError(f"cache is {self.clip.cache}: several processes share no step cache, turn it off")
            return self._draw(progress, sharing)

    def _draw(self, progress: Any, sharing: Sharing) -> dict[str, Any] | None:
        """`run` as one of the processes."""
        from diffusers.utils import logging as diffusers_logging

        from motion.hosts.standalone.host import Standalone
        from motion.hosts.standalone.samplers import schedule_type
        from motion.hosts.standalone.windows import windows_of
        from motion.hosts.standalone.work import Work, seed_of_work

        diffusers_logging.set_verbosity_error()  # its remarks would stand between the user and the progress bar

        start, clip = time.perf_counter(), self.clip
        family = None if clip.family == "auto" else clip.family
        module = motion.load(self.module, family) if self.module is not None else None
        windows = windows_of(clip, module)
        if sharing.size > 1 and sharing.leads and not windows.apart:
            _log.warning("the UNet is not run window by window for this clip: one of the processes draws it alone")
        attached = self._attached()
        if clip.trigger_words:
            clip = replace(clip, prompt=motion.lora.add_trigger_words(clip.prompt, attached, clip.frames))
        opened = self.vae, self.prediction, sharing, self.low_memory or None
        host = Standalone.open(self.checkpoint, self.device, self.dtype, *opened)
        place = {"device": str(host.device), "dtype": str(host.dtype).removeprefix("torch.")}
        provenance = {**self._provenance(), "Schedule type": schedule_type(clip, host.parts.parameterization)}
        asked = infotext(clip, {**provenance, **place, "Key images": key_frames.digest(self.controls)})
        work = Work.of(self.work, clip, asked) if self.work is not None and sharing.leads else None
        clip = sharing.of_first(seed_of_work(clip, work))
        networks = self._networks(host, module, attached)
        frames, controls = self._frames(host, clip, networks, progress if sharing.leads else None, work)
        if not sharing.leads:
            return None
        parameters, count = infotext(clip, {**provenance, **describe_controls(controls)}), 0

        def zoomed() -> Iterator[Frame]:
            nonlocal count
            count = 0
            for frame in frames:
                count += 1
                yield frame.repeat(clip.zoom, 0).repeat(clip.zoom, 1)

        write(Rewindable(zoomed), self.out, clip.fps, parameters)
        if work is not None:
            work.finish()
        width, height = (side * clip.zoom for side in clip.finished_size)
        report = {"path": self.out, "frames": count, "fps": clip.fps}
        report |= {"width": width, "height": height, "seed": clip.seed}
        report |= {**place, "seconds": round(time.perf_counter() - start, 2), "parameters": parameters}
        return {**report, "sparsectrl": describe_controls(controls)}

    def _networks(self, host: Standalone, module: MotionModel | None, attached: Sequence[WeightedLora]) -> Networks:
        """All that acts on the image model, opened."""
        from motion.hosts.effects import effect_of_further
        from motion.hosts.regions import Regions
        from motion.hosts.standalone.networks.networks import Networks
        from motion.weights.formats.embeddings import open_embedding

        return Networks(
            module,
            self.loras,
            attached,
            self.controls,
            self._prompted_by(),
            self.control_clips,
            tuple(map(open_embedding, self.embeddings)),
            motion.one_shot.load(self.one_shot) if self.one_shot is not None else None,
            [(motion.load(item.module), effect_of_further(item, self.clip.frames)) for item in self._further()],
            self._style(host),
            Regions.read(self.regions, self.clip.frames) if self.regions else None,
        )

    def _frames(
        self, host: Standalone, clip: Clip, networks: Networks, progress: Any, work: Work | None
    ) -> tuple[Iterable[Frame], Sequence[Control]]:
        """The frames as they are played, and the controls that were told their effects."""
        from motion.hosts.standalone.continuation import continue_clip

        if (path := self.continuation) is None:
            noise = self._noise(host, clip, networks)
            return host.stream(clip, networks, progress, work, self.source, noise), self.controls
        new, controls = continue_clip(host, clip, networks, path, progress)
        return Rewindable(lambda: path.whole(new, clip.finished_size)), controls

    def _noise(self, host: Standalone, clip: Clip, networks: Networks) -> Tensor | None:
        """The noise of the source's frames; without a caption, as Tune-A-Video finds it."""
        if self.inverted is None:
            return None
        import numpy as np

        frames = np.stack(list(self.inverted.frames(clip.frames, clip.size)))
        return host.invert(replace(clip, prompt=clip.source_caption, negative=""), frames, networks)

    def _attached(self) -> list[WeightedLora]:
        """The motion LoRAs and the adapter, each with its weight."""
        loras = [(motion.lora.load(file.path, "motion"), file.weight) for file in self.motion_loras]
        loras += [(motion.lora.load(file, "image"), self.clip.adapter_scale) for file in [self.adapter] if file]
        return [(found, settle_curve(weight, self.clip.frames, self.clip.fps)) for found, weight in loras]

    def _prompted_by(self) -> ImagePrompt | None:
        """The image prompt, with the loudness of sounds in its curve."""
        prompt = self.image_prompt
        return prompt and replace(prompt, scale=settle_curve(prompt.scale, self.clip.frames, self.clip.fps))

    def _style(self, host: Standalone) -> Style | None:
        from motion.hosts.standalone.checkpoint import open_unet
        from motion.hosts.standalone.networks.networks import Style

        if self.style is None:
            return None
        strength = settle_curve(self.style.weight, self.clip.frames, self.clip.fps)
        check_file(self.style.path, "style", OR_FOLDER, folders=True)
        return Style(open_unet(self.style.path, host.device, host.dtype), strength)

    def _further(self) -> list[FurtherModule]:
        """The further modules, with the loudness of sounds in their curves."""
        frames, fps = self.clip.frames, self.clip.fps
        return [item._replace(effect=settle_curve(item.effect, frames, fps)) for item in self.further]

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
        if self.continuation is not None:
            extra |= {"Continues": str(self.continuation)}
        if self.inverted is not None:
            extra |= {"Inverted source": str(self.inverted)}
        if self.one_shot is not None:
            extra |= {"Tune-A-Video hash": short_hash(self.one_shot), "Tune-A-Video": self.one_shot.stem}
        if self.image_prompt is not None:
            shown, file = str(self.image_prompt), self.image_prompt.file
            extra |= {"IP-Adapter hash": short_hash(file), "IP-Adapter": shown}
        if self.adapter is not None:
            extra |= {TAB_FIELDS["adapter"].key: self.adapter.stem}
        row = TAB_FIELDS["loras"]
        extra[row.key] = row.write(tuple(Weighted(file.path.stem, file.weight) for file in self.motion_loras))
        if self.style is not None:
            extra |= {"Style hash": short_hash(self.style.path)} if self.style.path.is_file() else {}
            extra |= {"Style": str(Weighted(self.style.path.stem, self.style.weight))}
        if self.regions:
            extra |= {TAB_FIELDS["regions"].key: "; ".join("" if mask is None else mask.name for mask in self.regions)}
        row = TAB_FIELDS["modules"]
        extra[row.key] = row.write([item._replace(module=Path(item.module).stem) for item in self.further])
        loras = ", ".join(map(str, self.loras))
        words = ", ".join(f"{file.stem}: {short_hash(file)}" for file in self.embeddings)
        hashes = "; ".join(short_hash(control.file) for control in self.controls if control.file)
        return {
            **extra,
            "SparseCtrl hash": hashes,
            "LoRA": loras,
            "ControlNet": "; ".join(map(str, self.control_clips)),
            "TI hashes": words,
            "Version": f"motion {motion.__version__}",
        }
