"""Where the names are that examinations from outside of the repository take from the product."""

from typing import Any

from motion.cli.main import main
from motion.cli.render import Job
from motion.hosts.standalone import Networks
from motion.hosts.standalone.host import Standalone as Host
from motion.hosts.standalone.networks.lora_weights import merge_loras as merged
from motion.models.motion.architecture import SCHEDULES as BETAS
from motion.sampling.windows import FUSES, Windows
from motion.sampling.windows import SCHEDULES as WINDOW_SCHEDULES
from motion.settings.lora_tags import without_tags as plain
from motion.settings.parameters import infotext, parse_infotext
from motion.settings.prompt_keys import key_frames
from motion.settings.prompts import travel
from motion.settings.settings import Clip
from motion.training.folder import encode_clips as encoded

__all__ = [
    "BETAS",
    "FUSES",
    "WINDOW_SCHEDULES",
    "Clip",
    "Job",
    "Standalone",
    "Windows",
    "encoded",
    "infotext",
    "key_frames",
    "main",
    "merged",
    "parse_infotext",
    "plain",
    "travel",
]


class Standalone(Host):
    """The host as it was called before the networks were one object."""

    def render(self, clip: Clip, module: Any = None, progress: Any = None, **networks: Any) -> Any:
        return super().render(clip, Networks(module, **networks), progress)

    def stream(self, clip: Clip, module: Any = None, progress: Any = None, work: Any = None, **networks: Any) -> Any:
        return super().stream(clip, Networks(module, **networks), progress, work)
