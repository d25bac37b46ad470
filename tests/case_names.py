"""Where the names are that examinations from outside of the repository take from the product."""

from motion.cli.main import main
from motion.cli.render import Job
from motion.hosts.standalone.lora_weights import merge_loras as merged
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
