"""What clips are drawn with besides the image model: one object from the command line to the sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import nn

from motion.errors import MotionError
from motion.fields.curve import Value
from motion.hosts.controls import Control
from motion.hosts.regions import Regions
from motion.hosts.standalone.networks.control_net import ControlClip
from motion.hosts.standalone.networks.image_prompt import ImagePrompt
from motion.hosts.standalone.networks.lora import Lora
from motion.models.motion.model import MotionModel
from motion.models.one_shot import OneShotModel
from motion.sampling.casting import copied
from motion.sampling.effect import MotionEffect
from motion.sampling.lora import WeightedLora, adapts_frames, load_plain
from motion.settings.curves import value_of_first
from motion.settings.settings import Clip
from motion.weights.formats.embeddings import Embedding


class Style(NamedTuple):
    """A second image model's UNet, and how strongly its weights count, a number or a curve."""

    unet: nn.Module
    strength: Value


@dataclass(frozen=True)
class Networks:
    """The networks that act on the image model while it draws; none at all leaves it as it is."""

    module: MotionModel | None = None
    """Without one each frame is a picture of its own, unless the UNet is attached already."""
    loras: Sequence[Lora] = ()
    """The image model's."""
    attached: Sequence[WeightedLora] = ()
    """Motion LoRAs and domain adapters."""
    controls: Sequence[Control] = ()
    """Key frames with their SparseCtrl encoders; every control is told its effect."""
    image_prompt: ImagePrompt | None = None
    """Pictures that the frames are drawn after, by an IP-Adapter."""
    control_clips: Sequence[ControlClip] = ()
    """Clips that lead the frames by ControlNets."""
    embeddings: Sequence[Embedding] = ()
    """Words that prompts may name."""
    one_shot: OneShotModel | None = None
    """The tuned layers of one clip, which frames move by instead of a motion module."""
    further: Sequence[tuple[MotionModel, MotionEffect]] = ()
    """Motion modules that act beside the first one."""
    style: Style | None = None
    """What the image model takes on of another one."""
    regions: Regions | None = None
    """Where the parts of prompts count that AND joins; None: everywhere."""

    def act_by_row(self, clip: Clip) -> bool:
        """Whether layers of the UNet are given something by the row, or look at the rows of other frames."""
        style = self.style is not None and isinstance(self.style.strength, str)
        prompt = self.image_prompt is not None and isinstance(self.image_prompt.scale, str)
        looks_at_others = self.one_shot is not None or clip.cross_frame_mode(clip.zero_shot) != "none"
        return looks_at_others or style or prompt or adapts_frames(self.attached) or bool(self.varying)

    @property
    def varying(self) -> Sequence[Lora]:
        """The image model's LoRAs whose weights are curves."""
        return [lora for lora in self.loras if lora.varies]

    def attached_loras(self) -> list[WeightedLora]:
        """What is attached while frames are drawn, read anew where only its file is known."""
        return [*self.attached, *((load_plain(lora.path), lora.weight) for lora in self.varying)]

    def stored_as(self, unet: nn.Module, device: torch.device, dtype: torch.dtype) -> Networks:
        """With motion modules on ``device`` in ``dtype`` whose matrices are stored in as few bits as those of ``unet``:
        eight, or as they are."""
        stored = next((weight.dtype for weight in unet.parameters() if weight.dtype.itemsize == 1), None)
        if stored is None or self.module is None:
            return self
        module, *others = (
            copied(model, device, dtype, stored) for model in (self.module, *(further for further, _ in self.further))
        )
        effects = (effect for _, effect in self.further)
        return replace(self, module=module, further=[*zip(others, effects, strict=True)])

    def of_first(self, frames: int) -> Networks:
        """What a clip's first frame, a picture of its own, is drawn with; the clip has ``frames``."""
        attached = [(lora, value_of_first(weight, frames)) for lora, weight in self.attached]
        loras = [lora._replace(weight=value_of_first(lora.weight, frames)) for lora in self.loras]
        style = self.style and self.style._replace(strength=value_of_first(self.style.strength, frames))
        prompt = self.image_prompt and replace(self.image_prompt, scale=value_of_first(self.image_prompt.scale, frames))
        return replace(self, controls=(), loras=loras, attached=attached, style=style, image_prompt=prompt)

    def check(self, clip: Clip) -> None:
        """Raise MotionError for two that move the frames of ``clip``, each in its way, and modules beside none."""
        if self.module is None and self.further:
            raise MotionError("further motion modules go beside a first one: give that, too")
        reads_by_setting = clip.cross_frame_mode(clip.zero_shot) != "none"
        if self.one_shot is not None and (self.module is not None or reads_by_setting):
            raise MotionError(
                "a Tune-A-Video file is for clips without motion module and cross-frame attention: leave these out"
            )

    @classmethod
    def of(cls, networks: Networks | MotionModel | None) -> Networks:
        """`networks`, or those of a motion module alone, or none."""
        return networks if isinstance(networks, Networks) else cls(networks)
