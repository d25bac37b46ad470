"""What clips are drawn with besides the image model: one object from the command line to the sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from motion.hosts.controls import Control
from motion.hosts.standalone.networks.image_prompt import ImagePrompt
from motion.hosts.standalone.networks.lora import Lora
from motion.models.motion.model import MotionModel
from motion.sampling.lora import WeightedLora
from motion.weights.formats.embeddings import Embedding


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
    embeddings: Sequence[Embedding] = ()
    """Words that prompts may name."""

    @classmethod
    def of(cls, networks: Networks | MotionModel | None) -> Networks:
        """`networks`, or those of a motion module alone, or none."""
        return networks if isinstance(networks, Networks) else cls(networks)
